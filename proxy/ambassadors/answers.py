"""Whether what a policy answered is an answer at all. Pure; raises Fault, which says what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence

from proxy.ambassadors import policy as say
from proxy.ambassadors.guard import Fault


def check_decision(name: str, decision: object, endpoints: Sequence[say.Endpoint]) -> None:
    """What `open` of the policy of that name answered, when these were the endpoints."""
    if not isinstance(decision, say.NeedMore | say.Wait | say.Choose | say.Refuse | say.Serve):
        raise Fault(f"{name}.open answered {type(decision).__name__}, which is no decision")
    if isinstance(decision, say.Choose):
        check_endpoints("open", decision.candidates, endpoints)
        check_endpoints("open", decision.mirrors, endpoints)
        if decision.rewritten is not None and not isinstance(decision.rewritten, bytes):
            raise Fault("open rewrote the first bytes with what are no bytes")
    elif isinstance(decision, say.Refuse) and not isinstance(decision.answer, bytes):
        raise Fault("open refused with what are no bytes")
    elif isinstance(decision, say.Serve) and not isinstance(decision.session, say.Session):
        raise Fault("open serves with what is no Session")


def check_endpoints(what: str, found: object, endpoints: Sequence[say.Endpoint]) -> None:
    """A list of some of the endpoints, and of no others: a policy leads nowhere else."""
    if not isinstance(found, list | tuple):
        raise Fault(f"{what} answered {type(found).__name__} instead of a list of endpoints")
    known = {endpoint.address for endpoint in endpoints}
    for each in found:
        if not isinstance(each, say.Endpoint) or each.address not in known:
            raise Fault(f"{what} answered {str(each)[:60]!r}, which is none of the endpoints")


def check_actions(what: str, actions: object) -> None:
    """A list; each of them is looked at when it is carried out."""
    if not isinstance(actions, list | tuple):
        raise Fault(f"{what} answered {type(actions).__name__} instead of a list of actions")
