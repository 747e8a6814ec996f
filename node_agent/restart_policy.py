"""Whether, and how soon, a container runs again after it ended. Pure.

Kubernetes' table (pkg/kubelet/container/helpers.go): a pod that is on its way out restarts nothing; Never never;
OnFailure only after an exit code other than 0; Always always. And its back-off (pkg/kubelet/kubelet.go): the first
restart is immediate, the next ones wait initial, 2 x initial, 4 x initial ... up to a maximum, counted from the end of
the run; a run that lasted long enough starts the row anew. With the profile `kubernetes`: 0, 10, 20, 40, 80, 160, 300,
300 ... seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

ALWAYS, ON_FAILURE, NEVER = "Always", "OnFailure", "Never"


def should_restart(policy: str, exit_code: int, *, stopping: bool = False) -> bool:
    """Whether a container that ended with this exit code runs again. An empty policy is Always."""
    if stopping or policy == NEVER:
        return False
    return exit_code != 0 if policy == ON_FAILURE else True


@dataclass(frozen=True, slots=True)
class CrashBackoff:
    """The row of waits before restarts."""

    initial_s: float
    max_s: float
    reset_s: float
    """A run that lasted longer than this starts the row anew."""

    def delay_s(self, restarts_in_row: int) -> float:
        """How long to wait, from the end of the run, before the next one; given how many restarts came before."""
        if restarts_in_row <= 0:
            return 0.0
        # 2.0**60 is beyond every maximum and still a float.
        return min(self.max_s, self.initial_s * 2.0 ** min(restarts_in_row - 1, 60))

    def row_after(self, restarts_in_row: int, ran_s: float) -> int:
        """How many restarts count when a run of this length has ended."""
        return 0 if ran_s > self.reset_s else restarts_in_row


def format_duration(seconds: float) -> str:
    """As Go prints a duration: "500ms", "20s", "2m40s", "1h0m0s"."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms" if seconds > 0 else "0s"
    whole = int(seconds)
    text = f"{round(seconds % 60, 3):g}s"
    if whole >= 60:
        text = f"{whole // 60 % 60}m" + text
    if whole >= 3600:
        text = f"{whole // 3600}h" + text
    return text
