"""Send with txapns, for ``benchmarks/http2.py`` and ``benchmarks/goals.py``; see there."""

from itertools import cycle, islice
from pathlib import Path

from task import TASK, measure, tokens
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react

from txapns import Accepted, APNSClient, Gateway, Notification, ProviderToken

#: How many of ``send_one`` are in flight, how many batches there are, and how many of them get a device at a time.
IN_FLIGHT, BATCHES, AT_ONCE = 1_000, 3_000, 100


class Ways:
    """
    What can be called to send; each method takes how many, and returns how many were accepted.

    :param client: the client.
    """

    def __init__(self, client):
        self._client = client
        self._notification = Notification(payload={"aps": {"alert": TASK.alert}})

    async def send(self, count):
        """Send one notification to many devices."""
        return (await self._client.send(self._notification, tokens(count))).accepted

    async def keywords(self, count):
        """Send each device a notification of its own, made from keywords."""
        triples = ((number, Notification(alert=TASK.alert), token) for number, token in enumerate(tokens(count)))
        return (await self._client.send_many(triples)).accepted

    async def singles(self, count):
        """Send each device a notification of its own by ``send_one``, as requests of a web server do."""
        left = tokens(count)

        async def work():
            accepted = 0
            for token in left:
                outcome = await self._client.send_one(Notification(alert=TASK.alert), token)
                accepted += isinstance(outcome, Accepted)
            return accepted

        return sum(await gatherResults([Deferred.fromCoroutine(work()) for _ in range(IN_FLIGHT)]))

    async def lists(self, count):
        """Send many batches at the same time, each to a list of devices."""
        left = tokens(count)
        size = max(1, count // BATCHES)
        batches = iter(lambda: list(islice(left, size)), [])
        found = await gatherResults([self._client.send(self._notification, batch) for batch in batches])
        return sum(batch.accepted for batch in found)

    async def waiting(self, count):
        """Send as many batches at the same time, each of which waits for its next device; some get one at a time."""
        left = tokens(count)
        sources = [Source() for _ in range(min(count, BATCHES))]
        sending = [self._client.send(self._notification, source.tokens()) for source in sources]
        turns = cycle(sources)
        while batch := list(islice(left, AT_ONCE)):
            given = list(zip(turns, batch, strict=False))
            for source, token in given:
                source.give(token)
            await gatherResults([source.taken for source, _ in given])
        for source in sources:
            source.give(None)
        return sum(batch.accepted for batch in await gatherResults(sending))


class Source:
    """Gives tokens to a batch one at a time; ``taken`` fires when the batch asks for the next."""

    def __init__(self):
        self._next, self.taken = Deferred(), Deferred()

    def give(self, token):
        """Give the next; ``None`` is the end."""
        waiting, self._next, self.taken = self._next, Deferred(), Deferred()
        waiting.callback(token)

    async def tokens(self):
        """Iterate over them."""
        while token := await self._next:
            yield token
            self.taken.callback(None)


async def main(reactor):
    """Send batches."""
    client = APNSClient(
        reactor,
        ProviderToken.from_file(TASK.p8, TASK.key_id, TASK.team_id),
        Gateway.http2("localhost", TASK.port, trust_root=Path(TASK.ca).read_bytes()),
        topic=TASK.topic,
        max_connections=TASK.connections,
    )
    await measure(getattr(Ways(client), TASK.way))
    await client.close()


react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
