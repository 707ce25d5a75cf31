"""What the platform says about the plant: object models and type definitions that change."""

from random import Random
from typing import Final

from hotpath.simulate.catalogue import KINDS, OPERATORS
from hotpath.simulate.machines import Machine

_FIELDS: Final = (
    "properties.location",
    "properties.serialNumber",
    "maintenance.dueDate",
    "maintenance.lastInspection",
    "variables.temperature.highLimit",
    "references.parent",
)


def object_created(machine: Machine, rng: Random) -> dict[str, object]:
    """A machine that has just joined the plant."""
    return {
        "eventType": "objectModel.created",
        "severity": "info",
        **_identity(machine, version=1),
        "author": rng.choice(OPERATORS),
        "isHierarchical": False,
    }


def object_updated(machine: Machine, version: int, rng: Random) -> dict[str, object]:
    """Somebody has edited a machine's object model."""
    changed = rng.sample(_FIELDS, rng.randint(1, 2))
    limits = any("Limit" in each for each in changed)
    return {
        "eventType": "objectModel.updated",
        "severity": "warning" if limits else "info",
        **_identity(machine, version=version),
        "author": rng.choice(OPERATORS),
        "changed": changed,
    }


def object_deleted(machine: Machine, version: int, rng: Random) -> dict[str, object]:
    """A machine has left the plant."""
    return {
        "eventType": "objectModel.deleted",
        "severity": "warning",
        **_identity(machine, version=version),
        "author": rng.choice(OPERATORS),
    }


def type_updated(minor: int, rng: Random) -> dict[str, object]:
    """A type definition has a new version."""
    breaking = rng.random() < 0.15
    return {
        "eventType": "typeDefinition.updated",
        "severity": "critical" if breaking else "info",
        "typeId": rng.choice(KINDS).model,
        "version": f"1.{minor}.0",
        "previousVersion": f"1.{minor - 1}.0",
        "breaking": breaking,
        "author": rng.choice(OPERATORS),
    }


def _identity(machine: Machine, *, version: int) -> dict[str, object]:
    return {"objectId": machine.name, "model": machine.kind.model, "version": version}
