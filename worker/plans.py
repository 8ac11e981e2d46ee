"""
What a run makes for whom: one plan for all destinations that get the same objects.

Two destinations share a plan if their profiles ask for the same, and if the same earlier report lies there: a
report names its predecessor, and nothing that its reader has not got.
"""

from collections.abc import Callable

from dicom_node.peers import PeerSettings
from ledger.job import Claim
from ledger.profile import DEFAULT
from results.provenance import Predecessor
from worker.exchange import Plan


def plans_of(claim: Claim, peer_named: Callable[[str], PeerSettings | None]) -> tuple[Plan, ...]:
    """The plans of a claimed job, in the order of its destinations.

    Without a destination (a shadow run, or what only we give out) it is the default profile. So it is for a
    destination that the settings no longer know: its deliveries wait for an operator.
    """
    plans: dict[tuple[object, ...], Plan] = {}
    for name in claim.destinations:
        peer = peer_named(name)
        profile = DEFAULT if peer is None else peer.shows
        report = claim.predecessors.get(name)
        key = (profile.form, report and report.sop_instance)
        known = plans.get(key) or Plan(
            profile=profile, peers=(), predecessor=report and Predecessor.of(report)
        )
        plans[key] = known.model_copy(update={"peers": (*(known.peers or ()), name)})
    if not plans:
        return (Plan(predecessor=claim.predecessor and Predecessor.of(claim.predecessor)),)
    if len(plans) == 1:  # Everything is for everybody.
        return tuple(plan.model_copy(update={"peers": None}) for plan in plans.values())
    return tuple(plans.values())
