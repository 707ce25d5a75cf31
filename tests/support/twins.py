"""The loops that are there twice: have the service run those in Python, whatever is built."""

import pytest

from hotpath.amqp import connection as connection_module
from hotpath.amqp import ends, moment, outflow, pumping
from hotpath.core import router, usual_plain
from hotpath.service import commit, deliver, settle

needs_helper = pytest.mark.skipif(not ends.IN_C, reason="the C helper is not here to be compared")


def run_in_python(patch: pytest.MonkeyPatch) -> None:
    """What is done for many subscriptions or links at once is done one after the other."""
    patch.setattr(router, "route_all", usual_plain.route_all)
    patch.setattr(deliver, "offer_all", usual_plain.offer_all)
    patch.setattr(settle, "complete_all", usual_plain.complete_all)
    patch.setattr(commit, "collect_all", usual_plain.collect_all)
    patch.setattr(outflow, "pump_all", pumping.pump_all)
    patch.setattr(moment, "confirm_all", pumping.confirm_all)
    patch.setattr(connection_module, "Waker", pumping.Waker)
