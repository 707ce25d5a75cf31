"""QEL, a filter language over the properties of messages.

The way of a filter: text → `parse` → tree → check against a `Schema` → `Filter`, which has a
canonical text, is asked with `matches`, `truth` or `explain`, and is put into a `FilterIndex`
beside many others.

    >>> import qel
    >>> hot = qel.compile_filter("variable = 'temperature' and value > 80", "variables")
    >>> hot.matches({"variable": "temperature", "value": 81.5})
    True
    >>> str(hot)
    "variable = 'temperature' AND value > 80"

A message is a mapping of names to values: str, int, float, bool, datetime (without an offset:
UTC) or `DateTime`, None, lists and mappings of these. Values of other types are present but
compare with nothing. How values compare is written in `qel.values`.
"""

from qel.compiler import Filter, all_of, compile_filter
from qel.datetimes import DateTime, parse_datetime
from qel.errors import Problem, QelError, QelLimitError, QelSchemaError, QelSyntaxError
from qel.explain import Explanation, Outcome
from qel.index import FilterIndex
from qel.lexer import Limits
from qel.nodes import Node
from qel.parser import parse
from qel.printer import to_text
from qel.schema import TOPICS, Schema, Type
from qel.values import Message, Truth

__all__ = [
    "TOPICS",
    "DateTime",
    "Explanation",
    "Filter",
    "FilterIndex",
    "Limits",
    "Message",
    "Node",
    "Outcome",
    "Problem",
    "QelError",
    "QelLimitError",
    "QelSchemaError",
    "QelSyntaxError",
    "Schema",
    "Truth",
    "Type",
    "all_of",
    "compile_filter",
    "parse",
    "parse_datetime",
    "to_text",
]
