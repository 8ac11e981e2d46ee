"""The metadata of many instances at once (PS3.18 §10.4.1.1.2): the first that a viewer waits for.

A viewer shows nothing of a series before it has the metadata of all its images. To ask a reader costs as
much as to read a header, so readers are asked for some instances at a time, all readers at once, and a little
ahead of what the client has taken.
"""

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from dicom_node.dicomweb.readers import Readers
from dicom_node.dicomweb.refusals import NotAcceptable

_AT_ONCE = 16  # instances in one order: some 100 KB of answer


class Metadata:
    """Asks the readers."""

    def __init__(self, readers: Readers, *, at_once: int) -> None:
        """`at_once`: how many readers there are."""
        self._readers, self._at_once = readers, at_once
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="metadata")

    def array(self, instances: Sequence[tuple[str, str]]) -> Iterator[bytes]:
        """`instances` are a path and the URL of the bulk data of each; what comes is one array of JSON.

        Raises, while it is iterated, what `Readers.ask` raises.
        """
        groups = (instances[i : i + _AT_ONCE] for i in range(0, len(instances), _AT_ONCE))
        ahead: deque[Future[bytes]] = deque()

        def send(count: int) -> None:
            for group in itertools.islice(groups, count):
                ahead.append(self._threads.submit(self._group, group))

        try:
            send(2 * self._at_once)
            before = b"["
            while ahead:
                yield before + ahead.popleft().result()
                before = b","
                send(1)
            yield b"]"
        finally:
            for each in ahead:
                each.cancel()

    def _group(self, group: Sequence[tuple[str, str]]) -> bytes:
        try:
            return self._ask(group)
        except NotAcceptable:
            # One of them was too much for the reader: the others have nothing to do with it.
            return b",".join(self._ask([each]) for each in group)

    def _ask(self, group: Sequence[tuple[str, str]]) -> bytes:
        return self._readers.ask({"do": "metadata", "of": group})
