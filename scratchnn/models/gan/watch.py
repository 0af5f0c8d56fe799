"""Watching the game between both networks, and saying at which step it went wrong."""

from __future__ import annotations

import numpy as np

from scratchnn.device import on_host
from scratchnn.tensor import Tensor

KEEP = 0.98          # of the moving averages, in each step
COLLAPSED = 0.1      # share of the real examples' deviation below which drawn ones count as all alike
ONE_SIDED = 0.995    # share of the examples of both kinds that the discriminator tells, from which on nothing is left to play for
PATIENCE = 3         # findings in a row before it is said


class Watch:
    """Moving averages of what the discriminator says in each step, and findings about drawn examples, with the step at which they began.

        on_real, on_drawn     logits: they meet where the generator has won, and part where the discriminator has
        told_real, told_drawn share of each kind that the discriminator takes for what it is: 0.5 each where it can only guess

    critic: its heights have no zero point, so that the shares count from the middle between the two means.
    """

    def __init__(self, critic: bool = False):
        self.critic, self.averages, self.troubles, self.since = critic, {}, {}, {}

    def update(self, on_real: Tensor, on_drawn: Tensor) -> None:
        """Take the logits of a step into the averages."""
        real, drawn = on_host(on_real), on_host(on_drawn)
        middle = (real.mean() + drawn.mean()) / 2 if self.critic else 0.0
        seen = {"on_real": real.mean(), "on_drawn": drawn.mean(), "told_real": (real > middle).mean(),
                "told_drawn": (drawn < middle).mean()}
        for name, value in seen.items():
            self.averages[name] = KEEP * self.averages.get(name, float(value)) + (1 - KEEP) * float(value)

    def judge(self, step: int, real: np.ndarray, drawn: np.ndarray) -> dict[str, float]:
        """Figures for the log: the averages, and the spread of drawn examples (N, *shape) as a share of that of real ones. What was
        found PATIENCE times in a row is a trouble, from the step of the first of them on, until it is not found any more."""
        real, drawn = (x.reshape(len(x), -1).astype(np.float64) for x in (real, drawn))
        spread = float(np.sqrt(drawn.var(0).sum() / max(real.var(0).sum(), 1e-12)))
        found = {"collapse": spread < COLLAPSED,
                 "divergence": not self.critic and min(self.averages["told_real"], self.averages["told_drawn"]) > ONE_SIDED}
        for name, is_so in found.items():
            self.since[name] = [*self.since.get(name, []), step] if is_so else []
            if len(self.since[name]) >= PATIENCE:
                self.troubles[name] = self.since[name][0]
            elif not is_so:
                self.troubles.pop(name, None)
        return {**self.averages, "spread": spread}

    def report(self) -> str:
        """What is wrong at present, and what to try; "" if nothing is."""
        advice = {"collapse": "all drawn examples are alike since step {}; --penalty r1, --packing 2 or a lower --lr may help",
                  "divergence": "the discriminator is sure of nearly every example since step {}, so that the generator learns little; "
                                "--penalty r1 or a lower --lr may help"}
        return "; ".join(f"{name}: {advice[name].format(step)}" for name, step in self.troubles.items())

    def state_dict(self) -> dict:
        return {"averages": self.averages, "troubles": self.troubles, "since": self.since}

    def load_state_dict(self, state: dict) -> None:
        self.averages, self.troubles, self.since = (dict(state[name]) for name in ("averages", "troubles", "since"))
