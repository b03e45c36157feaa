from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import InvalidCredentials, InvalidSourceConfig, SourceNotFound, VersionConflict
from protocol.frozen import JsonValue
from server.session.configs import (
    Change,
    GivenCredentials,
    Stored,
    merge_patch,
    plan_change,
    read_config,
    read_credentials,
)
from server.sources.inbox import InboxProvider
from storage.source_configs import SourceConfigRow
from tests.session.providers import STAGE, Stage

# RFC 7396, appendix A.
EXAMPLES: list[tuple[JsonValue, JsonValue, JsonValue]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab", max_size=2),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1, max_size=1), inner)
    ),
    max_leaves=8,
)


@pytest.mark.parametrize(("target", "patch", "result"), EXAMPLES)
def test_a_merge_patch_does_what_the_rfc_shows(
    target: JsonValue, patch: JsonValue, result: JsonValue
) -> None:
    assert merge_patch(target, patch) == result


@given(json_values, json_values)
def test_a_merge_patch_changes_neither_of_its_arguments(target: Any, patch: Any) -> None:
    before = deepcopy((target, patch))
    merge_patch(target, patch)
    assert (target, patch) == before


@given(json_values, json_values)
def test_a_merge_patch_given_again_changes_nothing_more(target: Any, patch: Any) -> None:
    once = merge_patch(target, patch)
    assert merge_patch(once, patch) == once


@given(st.dictionaries(st.text("abcd", max_size=2), json_values), json_values)
def test_what_a_patch_does_not_name_stays(target: dict[str, Any], patch: Any) -> None:
    merged = merge_patch(target, patch)
    if isinstance(patch, Mapping):
        assert isinstance(merged, Mapping)
        assert {k: merged[k] for k in target if k not in patch} == {
            k: v for k, v in target.items() if k not in patch
        }


def row(
    config: Mapping[str, JsonValue],
    *,
    version: int = 5,
    credentials: bytes | None = None,
    enabled: bool = True,
) -> SourceConfigRow:
    return SourceConfigRow(STAGE, enabled, config, credentials, version, datetime(2026, 1, 1, tzinfo=UTC))


def test_a_config_is_stored_coerced_and_without_what_was_left_to_the_defaults() -> None:
    _, stored = read_config(Stage(), {"count": "3", "since": "2026-02-03"})
    assert stored == {"count": 3, "since": "2026-02-03"}


def test_a_value_that_equals_its_default_is_stored_if_it_was_given() -> None:
    _, stored = read_config(Stage(), {"text": "hello"})
    assert stored == {"text": "hello"}


def test_every_mistake_of_a_config_is_named_with_its_path() -> None:
    with pytest.raises(InvalidSourceConfig) as caught:
        read_config(Stage(), {"count": 99, "tags": ["good", 7], "colour": "red"})
    assert {issue.path for issue in caught.value.issues} == {("count",), ("tags", 1), ("colour",)}


def test_a_config_beyond_its_bound_is_refused() -> None:
    with pytest.raises(InvalidSourceConfig, match="invalid source config"):
        read_config(Stage(), {"tags": ["x" * 1000] * 70})


def test_a_secret_never_appears_in_the_issues_of_credentials() -> None:
    with pytest.raises(InvalidCredentials) as caught:
        read_credentials(Stage(), {"password": "s3"})
    assert "s3" not in str(caught.value)
    assert caught.value.issues[0].path == ("password",)


def test_a_source_that_takes_no_credentials_says_so() -> None:
    with pytest.raises(InvalidCredentials):
        read_credentials(InboxProvider(), {"password": "secret"})


def test_what_is_stored_of_credentials_is_what_was_given() -> None:
    given_ = read_credentials(Stage(), {"password": "hunter22"})
    assert given_ is not None
    assert given_.raw == {"password": "hunter22"}
    assert "hunter22" not in repr(given_)


def test_a_patch_merges_and_keeps_what_it_does_not_name() -> None:
    plan = plan_change(Stage(), row({"text": "a", "count": 2}), Change(config={"count": None}))
    assert plan.config == {"text": "a"}
    assert plan.enabled


def test_enabled_alone_leaves_the_config() -> None:
    plan = plan_change(Stage(), row({"text": "a"}, enabled=False), Change(enabled=True))
    assert (plan.enabled, plan.config) == (True, {"text": "a"})


def test_a_put_replaces_the_whole_config() -> None:
    change = Change(enabled=False, config={"count": 4}, replaces=True)
    plan = plan_change(Stage(), row({"text": "a"}), change)
    assert (plan.enabled, plan.config) == (False, {"count": 4})


def test_a_patch_without_a_row_says_that_there_is_none() -> None:
    with pytest.raises(SourceNotFound) as caught:
        plan_change(Stage(), None, Change(enabled=True))
    assert caught.value.reason == "noRow"


@pytest.mark.parametrize(
    ("stored", "asked", "fits"), [(5, 5, True), (5, 4, False), (None, 0, True), (5, 0, False)]
)
def test_a_conditional_write_needs_the_present_version(stored: int | None, asked: int, fits: bool) -> None:
    present = None if stored is None else row({}, version=stored)
    change = Change(enabled=True, config={}, if_version=asked, replaces=True)
    if fits:
        plan_change(Stage(), present, change)
    else:
        with pytest.raises(VersionConflict) as caught:
            plan_change(Stage(), present, change)
        assert caught.value.version == 5


def test_stored_credentials_stay_while_the_place_they_are_sent_to_stays() -> None:
    plan = plan_change(Stage(), row({}, credentials=b"sealed"), Change(config={"text": "b"}))
    assert plan.credentials is Stored.KEEP


def test_stored_credentials_stay_if_the_place_is_only_spelt_out() -> None:
    """The stored row leaves the default unwritten: writing it down sends nothing anywhere else."""
    plan = plan_change(Stage(), row({}, credentials=b"s"), Change(config={"url": "https://one.example"}))
    assert plan.credentials is Stored.KEEP


def test_stored_credentials_go_when_the_place_they_are_sent_to_changes() -> None:
    plan = plan_change(
        Stage(), row({}, credentials=b"sealed"), Change(config={"url": "https://evil.example"})
    )
    assert plan.credentials is Stored.DROP


def test_stored_credentials_go_when_a_put_takes_the_place_back_to_its_default() -> None:
    stored = row({"url": "https://two.example"}, credentials=b"sealed")
    plan = plan_change(Stage(), stored, Change(enabled=True, config={}, replaces=True))
    assert plan.credentials is Stored.DROP


def test_new_credentials_come_with_a_new_place() -> None:
    change = Change(config={"url": "https://two.example"}, credentials={"password": "hunter22"})
    plan = plan_change(Stage(), row({}, credentials=b"sealed"), change)
    assert isinstance(plan.credentials, GivenCredentials)


def test_credentials_of_a_row_that_no_longer_fits_its_schema_are_not_sent_anywhere() -> None:
    stored = row({"url": "https://one.example", "gone": 1}, credentials=b"sealed")
    plan = plan_change(Stage(), stored, Change(config={"gone": None}))
    assert plan.credentials is Stored.DROP
