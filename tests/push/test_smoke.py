from tests.push.conftest import ALICE, Server
from tests.push.peers import Follower, open_peer


async def test_smoke(server: Server) -> None:
    server.board.show(ALICE, a="one")
    async with open_peer(server.address, server.token()) as peer:
        print(peer.welcome)
        f = Follower(peer, ALICE)
        print(await f.step(), f.texts(), f.state.pending)
        server.board.show(ALICE, a="two", b="three")
        while len(f.texts()) < 2:
            print(await f.step(), f.texts())
        print(await peer.call("connection.ping"))
        print(await peer.call("connection.info"))
        print(await peer.call("source.list"))
        print(await peer.call("feed.refresh"))
        print(await peer.call("feed.get"))
