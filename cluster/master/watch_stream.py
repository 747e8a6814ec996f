"""The server's end of WatchStream: begins and ends watches as it is told, and says what there is of all of them.

    begin 1, begin 2, begin 3      each is judged and begun like a call of Watch
    2 may not be                   its error is its answer; the stream and the others go on
    news of 1 and 3                one message
    end 3                          nothing more is said of it

When the caller has said its last, the watches go on; when it takes nothing for too long, all of them end together, and
it resumes them over another stream. What a watch is, and who may have it, `begin` knows.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable

from cluster.actor.tasks import Tasks
from cluster.api.errors import ApiError, BadRequest, Internal, Unavailable
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.rpc.frames import WatchAnswer, write_watch_answers
from cluster.rpc.outcome import to_status
from cluster.rpc.requests import hand_over
from cluster.store.bundle import Bundle, Said

_log = logging.getLogger("podium.master")

Begin = Callable[[Bundle, int, wire.WatchRequest], None]
"""Adds the watch that is asked for to the bundle, under that number, or raises an ApiError."""


def reader_is_slow(error: ApiError) -> ApiError:
    """What a caller is told when one of its watches had to be ended while it took a message: it resumes them all."""
    if isinstance(error, Unavailable):
        return error
    return Unavailable(f"all watches of this stream end, and may be resumed: {error}")


async def serve(
    bundle: Bundle,
    begin: Begin,
    messages: AsyncIterator[wire.WatchCalls],
    complete: Callable[[ApiError], None] = lambda error: None,
) -> AsyncGenerator[bytes, None]:
    """Encoded WatchAnswers, until the caller has said its last and no watch is left. `complete` adds to errors, before
    they are encoded, what the server's gate adds to the error of a call. Raises BadRequest for calls without a meaning.
    """

    def take(message: wire.WatchCalls) -> None:
        for call in message.calls:
            what = call.WhichOneof("call")
            if what == "end":
                bundle.remove(call.id)
            elif what is None:
                bundle.finish(BadRequest("a call of a stream of watches begins or ends one"))
            elif call.id in bundle:  # its answer would be taken for the other's
                bundle.finish(BadRequest(f"there is a watch {call.id} in this stream already"))
            else:
                try:
                    begin(bundle, call.id, call.begin)
                except ApiError as error:
                    bundle.refuse(call.id, error)
                except Exception as error:
                    _log.error("a bug in the master: a watch could not begin", exc_info=error)
                    bundle.refuse(call.id, Internal(f"the watch failed: {type(error).__name__}"))

    async def read() -> None:
        await hand_over(messages, take)
        bundle.finish()

    tasks = Tasks("watch stream")
    tasks.spawn(read(), name="calls")
    try:
        while said := await bundle.next():
            yield write_watch_answers([_answer(each, complete) for each in said])
            bundle.taken()
    finally:
        await tasks.cancel_all()
        await bundle.close()


def _answer(said: Said, complete: Callable[[ApiError], None]) -> WatchAnswer:
    if said.error is None:
        return WatchAnswer(said.number, said.batch, None)
    complete(said.error)
    return WatchAnswer(said.number, None, to_status(said.error).SerializeToString())
