-- serves: 1
--
-- Every write of a user's rows first raises users.seq: that row is the user's write lock, and the number is
-- the place of the write in the user's order. Times are timestamptz, JSON is jsonb, secrets are bytea.

CREATE TABLE users (
    user_id     text PRIMARY KEY CHECK (length(user_id) BETWEEN 1 AND 256),
    seq         bigint NOT NULL,
    defaults_at timestamptz,
    created_at  timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 70); -- seq changes all the time and is in no index: leave room for that in the page

-- One row. user_floor is at least the last seq of every deleted user: new users start above it, so that
-- nobody takes a user who came back for the one that was deleted.
CREATE TABLE global_seq (
    id         boolean PRIMARY KEY DEFAULT true CHECK (id),
    seq        bigint NOT NULL,
    user_floor bigint NOT NULL
);
INSERT INTO global_seq (seq, user_floor) VALUES (0, 0);

CREATE TABLE user_source_config (
    user_id     text NOT NULL REFERENCES users ON DELETE CASCADE,
    source_id   text NOT NULL CHECK (length(source_id) BETWEEN 1 AND 256),
    enabled     boolean NOT NULL,
    config      jsonb NOT NULL CHECK (jsonb_typeof(config) = 'object'),
    credentials bytea,
    version     bigint NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, source_id)
);

-- state: the source's own durable state, written like everything of the user. saved: its last good items
-- and context, kept so that a restart blanks nobody's screen; no write of the user depends on it.
CREATE TABLE source_state (
    user_id    text NOT NULL REFERENCES users ON DELETE CASCADE,
    source_id  text NOT NULL CHECK (length(source_id) BETWEEN 1 AND 256),
    state      jsonb,
    updated_at timestamptz,
    saved      bytea,
    saved_at   timestamptz,
    PRIMARY KEY (user_id, source_id)
) WITH (fillfactor = 70); -- a reported location is an update in place

-- seq and place: the order of publication (the write, and the item's place in it).
CREATE TABLE inbox_items (
    user_id      text NOT NULL REFERENCES users ON DELETE CASCADE,
    publisher    text NOT NULL CHECK (length(publisher) BETWEEN 1 AND 256),
    item_id      text NOT NULL CHECK (length(item_id) BETWEEN 1 AND 512),
    item         jsonb NOT NULL CHECK (jsonb_typeof(item) = 'object'),
    expires_at   timestamptz,
    published_at timestamptz NOT NULL,
    seq          bigint NOT NULL,
    place        integer NOT NULL,
    PRIMARY KEY (user_id, publisher, item_id)
);
CREATE INDEX inbox_items_expiry ON inbox_items (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE reminders (
    user_id     text NOT NULL REFERENCES users ON DELETE CASCADE,
    reminder_id text NOT NULL CHECK (length(reminder_id) BETWEEN 1 AND 256),
    body        jsonb NOT NULL CHECK (jsonb_typeof(body) = 'object'),
    overrides   jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(overrides) = 'object'),
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, reminder_id)
);

CREATE TABLE dismissals (
    user_id      text NOT NULL REFERENCES users ON DELETE CASCADE,
    item_id      text NOT NULL CHECK (length(item_id) BETWEEN 1 AND 1024),
    hash         bytea NOT NULL,
    until        timestamptz,
    dismissed_at timestamptz NOT NULL DEFAULT now(),
    seq          bigint NOT NULL,
    PRIMARY KEY (user_id, item_id)
);

-- One enhancement a user: what the last run filled in, how many runs this hour has seen, and who may run now.
CREATE TABLE enhancements (
    user_id     text PRIMARY KEY REFERENCES users ON DELETE CASCADE,
    input_hash  bytea,
    fills       jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(fills) = 'object'),
    synthetic   jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(synthetic) = 'array'),
    stored_at   timestamptz,
    calls       integer NOT NULL DEFAULT 0,
    hour        timestamptz NOT NULL,
    leased_by   text,
    lease_hash  bytea,
    lease_until timestamptz
) WITH (fillfactor = 70);

-- The first answer to an action that came with a key. No answer yet: it is being worked on until lease_until.
CREATE TABLE action_results (
    user_id     text NOT NULL REFERENCES users ON DELETE CASCADE,
    key         text NOT NULL CHECK (length(key) BETWEEN 1 AND 128),
    answer      jsonb,
    claimed_by  text NOT NULL,
    lease_until timestamptz NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, key)
);
CREATE INDEX action_results_age ON action_results (created_at);

CREATE TABLE provider_settings (
    source_id  text PRIMARY KEY CHECK (length(source_id) BETWEEN 1 AND 256),
    settings   bytea NOT NULL,
    version    bigint NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- Not bound to users: a revocation outlives the user it is about.
CREATE TABLE revocations (
    user_id       text PRIMARY KEY CHECK (length(user_id) BETWEEN 1 AND 256),
    issued_before timestamptz NOT NULL,
    version       bigint NOT NULL,
    revoked_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX revocations_version ON revocations (version);
