"""A plant that never was: pumps, tanks and boilers whose data look real, the same for each seed."""

from hotpath.simulate.plant import Emission, Plant

__all__ = ["Emission", "Plant"]
