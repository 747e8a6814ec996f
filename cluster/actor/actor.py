"""An actor: one task, one mailbox, one message at a time; so its state needs no lock.

Others hold a `Ref`: they `tell` it something, or `ask` it and wait for the answer, always with a deadline. Who waits
for an answer gets one, even if the actor crashes or stops meanwhile. What takes long, an actor starts as a task of its
own (`spawn`), and the completion comes back to the mailbox as a message.

The idea is Erlang's; the words are those of OTP and Pykka.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from cluster.actor.mailbox import Full, Mailbox, MailboxClosed, MailboxFull
from cluster.actor.tasks import Tasks

M = TypeVar("M")
R = TypeVar("R")
_log = logging.getLogger("podium.actor")


class ActorStopped(Exception):
    """The actor has stopped or crashed; the message was not, or not completely, handled."""


class AskTimeout(Exception):
    """No answer in time. The message may have been handled, or be in work; if it has not begun, it never will."""


@dataclass(frozen=True, slots=True)
class _Envelope(Generic[M]):
    message: M
    answer: asyncio.Future[Any] | None


class Ref(Generic[M]):
    """How others reach an actor."""

    __slots__ = ("_mailbox", "name")

    def __init__(self, name: str, mailbox: Mailbox[_Envelope[M]]) -> None:
        self.name = name
        self._mailbox = mailbox

    async def tell(self, message: M) -> None:
        """Sends a message. Waits for room, or raises MailboxFull, as the mailbox's policy says. Raises ActorStopped."""
        try:
            await self._mailbox.put(_Envelope(message, None))
        except MailboxClosed:
            raise ActorStopped(self.name) from None

    def offer(self, message: M) -> bool:
        """Sends a message if there is room; says whether there was. Raises ActorStopped."""
        try:
            return self._mailbox.offer(_Envelope(message, None))
        except MailboxClosed:
            raise ActorStopped(self.name) from None

    async def ask(self, message: M, timeout_s: float) -> Any:
        """Sends a message and returns what the actor's `receive` returns for it, or raises what that raises.

        Raises ActorStopped, MailboxFull, AskTimeout.
        """
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout_s):
                await self._mailbox.put(_Envelope(message, answer))
                return await answer
        except MailboxClosed:
            raise ActorStopped(self.name) from None
        except TimeoutError:
            if answer.done() and not answer.cancelled():
                return answer.result()  # it came at the last moment, or it is a TimeoutError of the actor's own
            raise AskTimeout(f"{self.name} did not answer within {timeout_s:g} s") from None


class Actor(Generic[M]):
    """Base of actors: override `receive`, and `on_start` and `on_stop` where there is something to do."""

    def __init__(
        self,
        name: str,
        *,
        limit: int = 1000,
        full: Full = Full.WAIT,
        key: Callable[[M], Hashable] | None = None,
    ) -> None:
        """`limit`, `full` and `key` are the mailbox's. An ask never replaces another message with the same key, nor is
        replaced by one: somebody waits for its answer.
        """
        self.name = name
        self._mailbox: Mailbox[_Envelope[M]] = Mailbox(limit, full, _envelope_key(key) if key is not None else None)
        self.ref: Ref[M] = Ref(name, self._mailbox)
        self.tasks = Tasks(name)
        self._own = Tasks("actor", on_crash=_on_actor_crash)  # not in self.tasks: the loop outlives those
        self._main: asyncio.Task[None] | None = None
        self._tidying = False

    async def receive(self, message: M) -> object | None:
        """Handles one message; the result answers an `ask`. An exception answers the ask too; for a `tell`, it ends the
        actor, whose state can no longer be trusted."""
        raise NotImplementedError

    async def on_start(self) -> None:
        """Called once, before the first message."""

    async def on_stop(self) -> None:
        """Called once, after the last message."""

    def spawn(self, coro: Coroutine[Any, Any, R], *, name: str) -> asyncio.Task[R]:
        """Starts a task that ends with the actor."""
        return self.tasks.spawn(coro, name=name)

    async def start(self) -> None:
        """Returns when the actor handles messages. Raises what `on_start` raises, when `on_stop` has run after it, and
        ActorStopped if it was stopped before or meanwhile. An actor lives once.
        """
        if self._main is not None:
            raise RuntimeError(f"{self.name} was started already")
        try:
            await self.on_start()
            if self._mailbox.is_closed:
                raise ActorStopped(self.name)
        except BaseException:
            await self._tidy_up()
            raise
        self._main = self._own.spawn(self._run(), name=self.name)

    async def run(self) -> None:
        """Returns when the actor has stopped; raises what made it crash, or ActorStopped if it had to be cancelled."""
        if self._main is None:
            return
        await asyncio.wait([self._main])
        if self._main.cancelled():
            raise ActorStopped(f"{self.name} was cancelled")
        self._main.result()

    async def stop(self, timeout_s: float = 5.0) -> None:
        """Handles the messages that are waiting, then ends; returns when all is gone. Twice is fine.

        After `timeout_s`, or when the caller is cancelled, the message in work is cancelled and the waiting ones are
        dropped (who asks gets ActorStopped). A `receive` that ignores that too is named in the log.
        """
        self._mailbox.close()
        if self._main is None:
            self._refuse_the_rest()
            return
        if self._main is asyncio.current_task():
            return  # called from `receive`: this message is the last one but for those that wait
        try:
            _, pending = await asyncio.wait([self._main], timeout=timeout_s)
        except asyncio.CancelledError:
            if not self._tidying:  # that is bounded in time, and must not be broken off
                self._main.cancel()
            raise
        if pending:
            _log.warning("%s does not finish its messages within %.1f s; it is cancelled", self.name, timeout_s)
            await self._own.cancel_all(timeout_s)

    async def _run(self) -> None:
        try:
            while True:
                try:
                    envelope = await self._mailbox.get()
                except MailboxClosed:
                    return
                await self._handle(envelope)
        finally:
            await self._tidy_up()

    async def _tidy_up(self) -> None:
        self._tidying = True
        self._mailbox.close()
        self._refuse_the_rest()
        await self.tasks.cancel_all()
        await self.on_stop()

    def _refuse_the_rest(self) -> None:
        for left in self._mailbox.drain():
            _fail(left, ActorStopped(self.name))

    async def _handle(self, envelope: _Envelope[M]) -> None:
        if envelope.answer is not None and envelope.answer.done():
            return  # the asker's time was over before its turn came: work for nobody
        try:
            result = await self.receive(envelope.message)
        except Exception as error:
            if envelope.answer is None:
                raise
            _fail(envelope, error)
        else:
            if envelope.answer is not None and not envelope.answer.done():
                envelope.answer.set_result(result)
        finally:
            _fail(envelope, ActorStopped(self.name))  # only when there is no answer yet: it was cancelled, or worse


def _fail(envelope: _Envelope[Any], error: Exception) -> None:
    if envelope.answer is not None and not envelope.answer.done():
        envelope.answer.set_exception(error)


def _on_actor_crash(task: asyncio.Task[Any], error: BaseException) -> None:
    _log.error("actor crashed: %s", task.get_name(), exc_info=error)


def _envelope_key(key: Callable[[M], Hashable]) -> Callable[[_Envelope[M]], Hashable]:
    # The answer's future is a key of its own: asks stand for themselves.
    return lambda envelope: (key(envelope.message), envelope.answer)


__all__ = ["Actor", "ActorStopped", "AskTimeout", "Full", "MailboxFull", "Ref"]
