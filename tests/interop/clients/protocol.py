"""How a client program talks to the tests: one line each way, words between tabs.

run  <scenario>  key=value ...      the tests ask for a scenario
call <command>   key=value ...      the client asks the service's operator for something
ok   key=value ... | error <text>   the answer
done passed | done failed <text>    the end of the scenario
"""

import sys
import traceback


def call(command: str, **fields: object) -> dict[str, str]:
    """Ask the operator of the service."""
    words = [f"{key}={value}" for key, value in fields.items()]
    print("\t".join(["call", command, *words]), flush=True)
    kind, *rest = sys.stdin.readline().rstrip("\n").split("\t")
    if kind != "ok":
        raise RuntimeError(" ".join(rest))
    return dict(word.split("=", 1) for word in rest)


def serve(scenarios: dict) -> None:
    """Carry out what the tests ask for, until they close the input."""
    for line in sys.stdin:
        _, name, *words = line.rstrip("\n").split("\t")
        options = dict(word.split("=", 1) for word in words)
        try:
            scenarios[name](options)
        except BaseException as error:  # noqa: BLE001  # whatever it is, it is told
            traceback.print_exc()
            text = f"{type(error).__name__}: {error}".replace("\t", " ").replace("\n", " ")
            print(f"done\tfailed\t{text[:600]}", flush=True)
        else:
            print("done\tpassed", flush=True)
