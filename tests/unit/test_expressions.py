"""Expressions: values, the messages of what is missing, the messages of what can't be read."""

import sys
from typing import Any

import pytest

from mesh.core.route import ExpressionError
from mesh.routes.expressions.compiler import compile_expression
from mesh.routes.expressions.paths import missing, path_text
from mesh.routes.expressions.tokens import ExpressionSyntaxError

SCOPE: dict[str, Any] = {
    "event": {
        "type": "com.github.issues.opened",
        "subject": "12",
        "data": {
            "issue": {"title": "Crash é😀", "labels": [{"name": "bug"}, {"name": "ui"}], "body": None, "comments": 3},
            "foo-bar": 1,
            "list": [1, 2.0, "a", None, True],
            "big": 2**70,
            "uint": 2**63,
            "least": -(2**63),
            "nan": float("nan"),
            "nested": {"a": [1, {"b": True}]},
            "empty": {},
            "half": "\ud800",
            "huge": 10**400,
        },
    },
    "steps": {"classify": {"severity": "high", "confidence": 0.9, "labels": ["bug"]}, "duplicates": None},
    "workflow": {"id": "issue-triage:octo/repo#12", "key": "octo/repo#12"},
}

VALUES: list[tuple[str, Any]] = [
    ("event.subject", "12"),
    ("event.data['foo-bar']", 1),
    ('event["data"].issue.labels[1].name', "ui"),
    ("(event.data).issue.title", "Crash é😀"),
    ("[event][0].subject", "12"),
    ("event.data.issue.labels[event.data.issue.comments - 2].name", "ui"),
    ("event.data.nested.a[1]['b']", True),
    ("steps.classify.severity == 'high'", True),
    ("steps.classify.severity != 'high'", False),
    ("'high' == steps.classify.severity", True),
    ("steps.classify.severity != steps.classify.labels[0]", True),
    ("steps.duplicates == null", True),
    ("event.data.list[4] == 1", False),
    ("event.data.list == [1.0, 2, 'a', null, true]", True),
    ("event.data.list == [1.0, 2, 'a', null, 1]", False),
    ("event.data.nested == {'a': [1.0, {'b': true}]}", True),
    ("event.data.nested == {'b': 1}", False),
    ("steps.classify.confidence < 0.7", False),
    ("steps.classify.confidence <= 1", True),
    ("event.subject >= '1'", True),
    ("false < true", True),
    ("2 > 1.5", True),
    ("'bug' in steps.classify.labels", True),
    ("1 in [1.0]", True),
    ("true in [1]", False),
    ("'subject' in event", True),
    ("1 in event", False),
    ("size(steps.classify.labels) > 0 && size(event.data.issue) == 4", True),
    ("size(event.data.issue.title)", 8),
    ("event.data.issue.title.size()", 8),
    ("event.data.issue.title.startsWith('Crash')", True),
    ("event.data.issue.title.endsWith('x')", False),
    ("event.data.issue.title.contains('é')", True),
    ("has(event.data.issue.body)", True),
    ("has(event.data.issue.nobody)", False),
    ("has([event][0].subject)", True),
    ("has(event.data.nope) ? event.data.nope : 'none'", "none"),
    ("true ? 1 : event.nope", 1),
    ("event.nope == 1 || true", True),
    ("true || event.nope == 1", True),
    ("event.nope == 1 && false", False),
    ("1 && false", False),
    ("true && true", True),
    ("false || false", False),
    ("!(1 == 2)", True),
    ("!!true", True),
    ("!-1 || true", True),
    ("1 + 2 * 3 - 4", 3),
    ("1.5 * 2.0", 3.0),
    ("'a' + 'b'", "ab"),
    ("[1] + [2]", [1, 2]),
    ("event.data.big", 2**70),
    ("event.data.big + 1.0", 2.0**70),
    ("event.data.big > 1", True),
    ("event.data.uint - event.data.uint", 0),
    ("-event.data.issue.comments", -3),
    ("-(1.5)", -1.5),
    ("--event.data.issue.comments", 3),
    ("- -1", 1),
    ("-9223372036854775808", -(2**63)),
    ("-0x10", -16),
    ("9007199254740993 > 9007199254740992.0", True),  # exact, as CEL has it
    ("event.data.nan == event.data.nan", False),
    ("event.data.nan < 1.0", False),
    ("{'a': event.subject, 'b': [1, event.subject]}", {"a": "12", "b": [1, "12"]}),
    ("{}", {}),
    ("[]", []),
    ("[1, 2,]", [1, 2]),
    ("{'a': 1,}", {"a": 1}),
    ("null", None),
    (".5 + 1e1", 10.5),
    (r"'\'\"\\\n\x41\u00e9\U0001F600\101\`' // a comment", "'\"\\\nAé😀A`"),
    (r"r'\n' + R'\'", r"\n" + "\\"),
    ("'''it's\ntwo''' + \"\"\"a\"b\"\"\"", "it's\ntwoa\"b"),
    ("event.if", "named if"),
]

CALLS: list[tuple[str, Any]] = [
    ("event.data.issue.labels.exists(l, l.name == 'bug')", True),
    ("event.data.issue.labels.map(l, l.name)", ["bug", "ui"]),
    ("event.data.issue.labels.filter(l, size(l.name) == 2)[0]", {"name": "ui"}),
    ("event.data.issue.labels.map(l, l.name == event.subject, l.name)", []),
    ("event.data.issue.title.matches('^Cr')", True),
    ("size(event.data.issue.title) == 8 && int(event.subject) == 12", True),
    ("[event.data.issue.title].map(t, t.size())[0]", 8),
    ("event.data.issue.comments / 2", 1),
    ("event.data.issue.comments % 2", 1),
    ("string(event.data.issue.comments)", "3"),
    ("timestamp('2026-01-02T03:04:05Z').getFullYear()", 2026),
    ("1u == 1u", True),
    ("size(b'abc') == 3 || true", True),
    ("{event.subject: 1}", {"12": 1}),
    ("event.data.list[0 / 1]", 1),
    ("[event.data.issue.labels[0]].exists(l, has(l.name))", True),
    ("[event.data.issue].exists(i, has(i.labels[0].name) && i.labels[0].name == 'bug')", True),
    ("type(event.data.issue.comments) == int", True),
    (
        "[type(null), type(1u), type(1.0), type([]), type({}), type(b''), type(type(1)), type(true), type('')]",
        ["null_type", "uint", "double", "list", "map", "bytes", "type", "bool", "string"],
    ),
    ("[type(timestamp(0)), type(duration('0'))]", ["google.protobuf.Timestamp", "google.protobuf.Duration"]),
    ("type(event.data.uint) == uint", True),
    ("[1].map(int, int + 1)", [2]),
    ("[1, 2, 3].map(x, x > 1, x * 2)", [4, 6]),
    ("[1, 2].map(x, [3, 4].map(y, x * y))", [[3, 4], [6, 8]]),
    ("[1, 2].map(x, [3].map(x, x))", [[3], [3]]),
    ("[].all(x, x) && ![].exists(x, x) && ![].exists_one(x, x)", True),
    ("[1, 2].all(x, x > 0) && [1, 1].exists_one(x, x == 1) == false", True),
    ("[1, 0, 2].exists(x, 2 / x == 1) && ![1, 0, 2].all(x, 2 / x == 1)", True),
    ("{'b': 1, 'a': 2}.map(k, k)", ["a", "b"]),
    ("{'b': 1, true: 1, 2: 1, 1u: 1, false: 1}.map(k, string(k))", ["false", "true", "1", "2", "b"]),
    ("event.data.issue.filter(k, k.startsWith('c'))", ["comments"]),
    ("{true: 'y', 1: 'n'}[true] + {true: 'y', 1: 'n'}[1] + {2: 'u'}[2u]", "ynu"),
    ("[{1: 2}].map(m, m[1])", [2]),
    ("true in {true: 1} && !(1 in {true: 1}) && 1 in {1: 1} && 1u in {1: 1}", True),
    ("{1: 2} == {1u: 2.0}", True),
    ("-7 / 2", -3),
    ("-7 % 2", -1),
    ("7 % -2", 1),
    ("7u / 2u + 7u % 2u - 1u * 1u", 3),
    ("[7.0 / 2.0, 0.5 - 1.5]", [3.5, -1.0]),
    ("1.0 / 0.0 > 1.0 && -1.0 / 0.0 < 1.0 && 0.0 / 0.0 != 0.0", True),
    ("-(-1.5)", 1.5),
    ("[int('-12'), int(1.9), int(-1.9), int(3u), int(timestamp('1970-01-01T00:01:00Z'))]", [-12, 1, -1, 3, 60]),
    ("[uint('5'), uint(1.5), double('1.5'), double(2), double('-1e3')]", [5, 1, 1.5, 2.0, -1000.0]),
    ("double('nan') != double('nan') && double('inf') > 1.0", True),
    ("[bool(true), bool('t'), bool('0')]", [True, True, False]),
    ("[string('a'), string(true), string(false), string(1u), string(b'abc')]", ["a", "true", "false", "1", "abc"]),
    (
        "[string(1.0), string(-0.0), string(1.5), string(1e20), string(1e-7), string(100.0)]",
        ["1", "0", "1.5", "100000000000000000000", "0.0000001", "100"],
    ),
    ("[string(0.0 / 0.0), string(1.0 / 0.0)]", ["NaN", "inf"]),
    ("bytes('é') + b'a' == b'éa' && bytes(b'a') < b'b' && size(bytes('é')) == 2", True),
    (r"b'\xff\101é' == b'\xffAé' && size(b'\xffé') == 3 && size(rb'\x') == 2", True),
    ("dyn(1) == 1", True),
    ("string(timestamp('2026-01-02t05:04:05.120+02:00'))", "2026-01-02T03:04:05.12Z"),
    ("string(timestamp('2026-01-02T03:04:05-00:30'))", "2026-01-02T03:34:05Z"),
    ("string(timestamp('1969-12-31T23:59:59.999999999Z'))", "1969-12-31T23:59:59.999999999Z"),
    ("string(timestamp(timestamp(60)))", "1970-01-01T00:01:00Z"),
    ("timestamp('2026-01-02T03:04:05Z') == timestamp('2026-01-02T04:04:05+01:00')", True),
    ("timestamp(1) < timestamp(2) && duration('60s') == duration('1m') && duration('-1s') < duration('0')", True),
    ("string(timestamp(0) + duration('1h30m') - duration('1.5s'))", "1970-01-01T01:29:58.5Z"),
    ("string(duration('1h') + timestamp(0))", "1970-01-01T01:00:00Z"),
    ("string(timestamp(0) - timestamp(90))", "-90s"),
    ("string(duration('1h1m') - duration('.5s') + duration('1ms1us1µs1ns'))", "3659.501002001s"),
    ("string(duration(duration('+1.5s')))", "1.5s"),
    ("[duration('90m').getHours(), duration('-90m').getHours(), duration('1.5s').getMilliseconds()]", [1, -1, 1500]),
    (
        (
            "[timestamp('2026-03-01T23:30:01.678Z')].map(t, [t.getFullYear(), t.getMonth(), t.getDate(), t.getDayOfMonth(),"
            " t.getDayOfWeek(), t.getDayOfYear(), t.getHours(), t.getMinutes(), t.getSeconds(), t.getMilliseconds()])[0]"
        ),
        [2026, 2, 1, 0, 0, 59, 23, 30, 1, 678],
    ),
    (
        (
            "[timestamp('2026-03-01T23:30:00Z')].map(t, [t.getHours('Europe/Berlin'), t.getDayOfWeek('Asia/Tokyo'),"
            " t.getHours('-08:00'), t.getMinutes('00:15')])[0]"
        ),
        [0, 1, 15, 45],
    ),
    ("'aab'.matches('^(a+)+b$') && !'x'.matches('y') && 'Éa'.matches('(?i)éA')", True),
]

MISSING: list[tuple[str, str]] = [
    (
        "steps.classify.severty == 'high'",
        "steps.classify.severty is not there; steps.classify has: confidence, labels, severity",
    ),
    ("steps.clasify.severity", "steps.clasify is not there; steps has: classify, duplicates"),
    ("stepz.x", "stepz is not there; there are: event, steps, workflow"),
    ("stepz", "stepz is not there; there are: event, steps, workflow"),
    ("steps.duplicates.matches", "steps.duplicates.matches is not there; steps.duplicates is null"),
    ("event.subject.x", "event.subject.x is not there; event.subject is a string"),
    ("event.data.issue.comments.x", "event.data.issue.comments.x is not there; event.data.issue.comments is a number"),
    ("event.data.list[4].x", "event.data.list[4].x is not there; event.data.list[4] is true"),
    (
        "event.data.issue.labels.name",
        "event.data.issue.labels.name is not there; event.data.issue.labels is a list of 2",
    ),
    ("event.data.issue.labels[2]", "event.data.issue.labels[2] is not there; event.data.issue.labels is a list of 2"),
    ("event.data.issue.labels[-1]", "event.data.issue.labels[-1] is not there; event.data.issue.labels is a list of 2"),
    (
        "event.data['a-b'].c",
        'event.data["a-b"] is not there; event.data has: big, empty, "foo-bar", half, huge, issue, least, list, nan, nested, uint',
    ),
    ("event.data.empty.a", "event.data.empty.a is not there; event.data.empty is empty"),
    ("[event][1]", "[event][1] is not there; [event] is a list of 1"),
    ("[event][0].nope", "[event][0].nope is not there; [event][0] has: data, subject, type"),
    (
        "event.data.list[event.data.issue.comments + 2]",
        "event.data.list[5] is not there; event.data.list is a list of 5",
    ),
    ("event.data.list[1.0]", "event.data.list[...] takes a whole number or a string, not a fraction"),
    ("has(event.nope.x)", "event.nope is not there; event has: data, subject, type"),
    ("has(event.subject.x)", "has(event.subject.x) needs an object, but event.subject is a string"),
    ("event.nope == 1 || event.subject == 'x'", "event.nope is not there; event has: data, subject, type"),
    ("event.nope && event.nuppe", "event.nope is not there; event has: data, subject, type"),
    ("{'a': [event.nope]}", "event.nope is not there; event has: data, subject, type"),
]

MISTYPED: list[tuple[str, str]] = [
    ("!event.subject", "event.subject must be true or false, not a string"),
    ("event.subject && true", "event.subject must be true or false, not a string"),
    ("event.subject || false", "event.subject must be true or false, not a string"),
    ("event.subject ? 1 : 2", "event.subject must be true or false, not a string"),
    ("event.subject < 13", "cannot compare a string < a number"),
    ("null < null", "cannot compare null < null"),
    ("true < 1", "cannot compare true < a number"),
    ("'a' in 'abc'", "cannot tell whether a string is in a string"),
    ("null in event", "cannot tell whether null is in an object"),
    ("1 + 1.5", "cannot compute a number + a number (a whole number and a fraction: write double(...))"),
    ("'a' + 1", "cannot compute a string + a number"),
    ("true * true", "cannot compute true * true"),
    ("event.data.uint + 1", "cannot compute a number + a number"),
    ("9223372036854775807 + 1", "the result of + does not fit in 64 bits"),
    ("event.data.uint * event.data.uint", "the result of * does not fit in 64 bits"),
    ("-event.data.least", "cannot take -event.data.least: it is a number too large"),
    ("-event.subject", "cannot take -event.subject: it is a string"),
    ("size(1)", "1 has no size: it is a number"),
    ("event.subject.startsWith(1)", "startsWith() needs strings, not a string and a number"),
    ("event.data.list[true]", "event.data.list[...] takes a whole number or a string, not true"),
]

CALL_TROUBLE: list[tuple[str, str]] = [
    ("event.data.isue.labels.exists(l, l.name == 'bug')", "event.data.isue is not there; event.data has: "),
    ("event.data.issue.labels.exists(l, l.nam == 'bug')", "l.nam is not there; l has: name"),
    ("int(event.data.nope) > 1 || has(event.data.other)", "event.data.nope is not there; event.data has: "),
    ("int(steps.duplicates.matches)", "steps.duplicates.matches is not there; steps.duplicates is null"),
    ("event.data.issue.labels.map(l, l)[7]", "event.data.issue.labels.map(l, l)[7] is not there; "),
    (
        "int(event.data.issue.labels[7].name)",
        "event.data.issue.labels[7] is not there; event.data.issue.labels is a list of 2",
    ),
    ("int(event.data.issue.title)", "int() of 'Crash é😀': the text is not a whole number"),
    ("int(null)", "int() takes a number, a string or a timestamp, not null"),
    ("int(true)", "int() takes a number, a string or a timestamp, not true"),
    ("int(1e30)", "int() of 1000000000000000019884624838656: the number does not fit in 64 bits"),
    ("int(event.data.uint)", "int() of 9223372036854775808: the number does not fit in 64 bits"),
    ("int(1e300 * 1e300)", "int() of inf is not a whole number"),
    ("int(type(1))", "int() takes "),
    ("uint(-1)", "uint() of -1: the number does not fit in 64 bits"),
    ("uint(null)", "uint() takes a number or a string, not null"),
    ("double('x')", "double() of 'x': the text is not a number"),
    ("double('1e400')", "double() of '1e400': the number is too large"),
    ("double([])", "double() takes a number or a string, not a list"),
    ("double(event.data.big * 1e300)", "the value is inf, which JSON does not have"),
    ("bool('yes')", "bool() takes true, false, or one of them as a string, not a string"),
    ("string(null)", "string() takes a number, a bool, bytes, a timestamp or a duration, not null"),
    (r"string(b'\xff')", "string(): the bytes are not UTF-8"),
    ("bytes(event.data.half)", "bytes(): the text holds half of a surrogate pair"),
    ("double(event.data.huge)", "double(): the number is too large"),
    ("bytes(1)", "bytes() takes a string, not a number"),
    ("timestamp('2026-01-02')", "'2026-01-02' is not an RFC 3339 time such as 2026-01-02T03:04:05Z"),
    ("timestamp('2026-13-02T03:04:05Z')", "'2026-13-02T03:04:05Z' is not a time: month must be in 1..12"),
    ("timestamp('0001-01-01T00:00:00+01:00')", "the time is not in the years 1 to 9999"),
    ("timestamp(true)", "timestamp() takes an RFC 3339 string, or seconds since 1970, not true"),
    ("duration('1d')", "'1d' is not a duration such as 1h30m or 1.5s"),
    ("duration(1)", "duration() takes a string such as 1h30m, not a number"),
    ("duration('90000000h')", "the duration is longer than 10,000 years"),
    ("timestamp(0).getHours('Mars/Olympus')", "there is no time zone 'Mars/Olympus'"),
    ("timestamp(0).getHours('../etc/passwd')", "there is no time zone '../etc/passwd'"),
    ("timestamp(0).getHours(1)", "a time zone is a name such as 'Europe/Berlin' or '+02:00', not a number"),
    ("timestamp('0001-01-01T00:00:00Z').getHours('-02:00')", "the time is not in the years 1 to 9999 of that zone"),
    ("duration('1h').getFullYear()", "getFullYear() is for a timestamp, not for a duration"),
    ("duration('1h').getHours('UTC')", "getHours() of a duration takes no time zone"),
    ("event.subject.getHours()", "getHours() is for a timestamp, not for a string"),
    ("1 / 0", "division by zero"),
    ("1 % 0", "the remainder of a division by zero"),
    ("1.5 % 2.0", "cannot compute a fraction % a fraction: % takes whole numbers"),
    ("1.0 / 0.0", "the value is inf, which JSON does not have"),
    ("[-1.0 / 0.0]", "the value is -inf, which JSON does not have"),
    ("0.0 / 0.0", "the value is nan, which JSON does not have"),
    ("-9223372036854775808 / -1", "the result of / does not fit in 64 bits"),
    ("1u - 2u", "the result of - does not fit in 64 bits"),
    ("1u + 1", "cannot compute a number + a number"),
    ("-(1u)", "cannot take -1u: it is a number too large"),
    ("timestamp(0) + timestamp(0)", "cannot compute a timestamp + a timestamp"),
    ("b'abc'", "the value is bytes, which JSON does not have: turn it into a string with string(...)"),
    (
        "[timestamp('2026-01-02T03:04:05Z')]",
        "the value is a timestamp, which JSON does not have: turn it into a string with string(...)",
    ),
    ("{1: 2}", "the value is an object whose keys are not all strings"),
    ("{1.5: 2}", "the key of a map must be a string, a whole number or a bool, not a number"),
    ("{1: 2}[null]", "{1: 2}[...] takes a whole number or a string, not null"),
    ("{1: 2}[2]", "{1: 2}[2] is not there; {1: 2} has: "),
    ("[1].map(x, size(x))", "x has no size: it is a number"),
    ("stepz.map(x, x)", "stepz is not there; there are: event, steps, workflow"),
    ("event.subject.map(x, x)", "map() needs a list or a map, but event.subject is a string"),
    ("[1].filter(x, x)", "x must be true or false, not a number"),
    ("[1].all(x, x / 0 == 1)", "division by zero"),
    ("[1].exists_one(x, x / 0 == 1)", "division by zero"),
    ("event.subject.matches(1)", "matches() needs strings, not a string and a number"),
    ("event.subject.matches(event.data.issue.title + '(')", "the pattern "),
]

UNREADABLE: list[tuple[str, int, str]] = [
    ("", 1, "the expression is empty"),
    ("  // nothing", 1, "the expression is empty"),
    ("a = 1", 3, "unexpected '=' (to compare write ==)"),
    ("a & b", 3, "unexpected '&' (for 'and' write &&)"),
    ("a | b", 3, "unexpected '|' (for 'or' write ||)"),
    ("1;", 2, "unexpected ';' (an expression is one value)"),
    ("`a`", 1, "unexpected '`' (strings go in ' or \")"),
    ("${{ a }}", 1, "unexpected '$' (expressions inside expressions take no ${{ }})"),
    ("a # b", 3, "unexpected '#'"),
    ("a and b", 3, "unexpected 'and' after the expression (write && for and, || for or, ! for not)"),
    ("not a", 5, "unexpected 'a' after the expression"),
    ("a b", 3, "unexpected 'b' after the expression"),
    ("1 +", 4, "expected a value, found the end"),
    ("(1", 3, "expected ')' to close '(', found the end"),
    ("a[1", 4, "expected ']' to close the index, found the end"),
    ("[1, 2", 6, "expected ']' to close the list, found the end"),
    ("{'a' 1}", 6, "expected ':' after the key of a map, found '1'"),
    ("{'a': 1", 8, "expected '}' to close the map, found the end"),
    ("true ? 1", 9, "expected ':' between the two values of '?', found the end"),
    ("true ? true ? 1 : 2 : 3", 13, "expected ':' between the two values of '?', found '?'"),
    ("a.", 3, "expected a name after '.', found the end"),
    ("a.1", 2, "unexpected '.1' after the expression"),
    ("a.in", 3, "'in' is a reserved word (write ['in'] without the dot)"),
    ("in", 1, "expected a value before 'in'"),
    ("while", 1, "'while' is a reserved word"),
    ("Msg{a: 1}", 4, "message literals are not supported (a map is written {'key': value})"),
    ("!-a", 2, "expected a value, found '-'"),
    ("-!a", 2, "expected a value, found '!'"),
    ("'abc", 1, "the string that opens here is not closed by '"),
    ('"a\nb"', 1, 'the string that opens here is not closed by "'),
    ("'''a", 1, "the string that opens here is not closed by '''"),
    (r"'\q'", 2, r"unknown escape \q (write \\ for a backslash)"),
    (r"'a\ud800'", 3, r"\ud800 is not a character"),
    (r"'\U00110000'", 2, r"\U00110000 is not a character"),
    ("9223372036854775808", 1, "the number 9223372036854775808 does not fit in 64 bits"),
    ("-9223372036854775809", 2, "the number 9223372036854775809 does not fit in 64 bits"),
    ("18446744073709551616u", 1, "the number 18446744073709551616u does not fit in 64 bits"),
    ("1" * 30, 1, "the number 11111111111111111111... does not fit in 64 bits"),
    ("1e400", 1, "the number 1e400 is too large"),
    ("size(1,)", 7, "expected a value after ','"),
    ("size()", 1, "size() takes 1 argument, not 0"),
    ("'a'.matches()", 5, "matches() takes 1 argument, not 0"),
    ("x.map(a)", 3, "map() takes 2 or 3 arguments, not 1"),
    ("siz(a)", 1, "unknown function siz() (did you mean size?)"),
    ("a.startswith('x')", 3, "unknown function startswith() (did you mean startsWith?)"),
    ("matches(a, 'x')", 1, "unknown function matches() (write value.matches(...))"),
    ("a.int()", 3, "unknown function int() (write int(value))"),
    (
        "now()",
        1,
        "unknown function now() (there are: bool, bytes, double, duration, dyn, has, int, size, string, timestamp, type, uint)",
    ),
    ("a.exists(b.c, true)", 10, "the first argument of exists() must name a variable (exists(item, ...))"),
    ("has(a)", 5, "has() takes a path that ends in a dot and a name (has(event.data.label))"),
    (
        "1 == 1 || 'a'.matches('(?=a)')",
        23,
        "the pattern '(?=a)' can't be used: invalid perl operator: (?= (RE2 has no look-around)",
    ),
    (
        r"'a'.matches(r'(a)\1')",
        13,
        r"the pattern '(a)\\1' can't be used: invalid escape sequence: \1 (RE2 has no back-references, and writes \z for the end)",
    ),
    ("'a'.matches('(')", 13, "the pattern '(' can't be used: missing ): ("),
    ("'a'.matches('" + "a" * 1001 + "')", 13, "the pattern has 1001 characters; the most is 1000"),
    ("(" * 41 + "1" + ")" * 41, 41, "the expression is nested too deep (at most 40 levels)"),
    ("1" + " + 1" * 400, 1601, "the expression is too long (at most 800 words and signs)"),
]

PATHS: list[tuple[str, set[str]]] = [
    ("event.data.issue.title", {"event.data.issue.title"}),
    ("event.data['foo-bar'].x == steps.a['b'][0].c", {'event.data["foo-bar"].x', "steps.a.b[0].c"}),
    ("event.data.list[event.data.n].name", {"event.data.list", "event.data.n"}),
    ("has(event.data.x) && !has(steps.a.b)", {"event.data.x", "steps.a.b"}),
    ("has([event.a][0].b)", {"event.a"}),
    ("event.l.exists(x, x.name == steps.a.b && has(x.c))", {"event.l", "steps.a.b"}),
    ("size(event.l) + 1 > -event.n ? [event.a] : {'k': event.b}", {"event.l", "event.n", "event.a", "event.b"}),
    ("int(event.a) == 1 || event.s.matches('x')", {"event.a", "event.s"}),
    ("steps['in'].x", {'steps["in"].x'}),
    ("1 == 2", set()),
]


@pytest.mark.parametrize(("source", "value"), VALUES)
def test_it_gives_the_value(source: str, value: Any) -> None:
    scope = {**SCOPE, "event": {**SCOPE["event"], "if": "named if"}}
    compiled = compile_expression(source)
    found = compiled.evaluate(scope)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(("source", "value"), CALLS)
def test_a_call_gives_the_value(source: str, value: Any) -> None:
    compiled = compile_expression(source)
    assert compiled.evaluate(SCOPE) == value


@pytest.mark.parametrize(("source", "message"), [*MISSING, *MISTYPED])
def test_it_says_what_is_missing_or_does_not_fit(source: str, message: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_expression(source).evaluate(SCOPE)
    assert str(caught.value) == f"{message} (in: {source})"


@pytest.mark.parametrize(("source", "message"), CALL_TROUBLE)
def test_a_call_says_what_is_missing_or_does_not_fit(source: str, message: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_expression(source).evaluate(SCOPE)
    assert str(caught.value).startswith(message)
    assert str(caught.value).endswith(f" (in: {source})")


@pytest.mark.parametrize(("source", "column", "message"), UNREADABLE)
def test_it_says_what_is_wrong_and_where(source: str, column: int, message: str) -> None:
    with pytest.raises(ExpressionSyntaxError) as caught:
        compile_expression(source)
    assert (str(caught.value), caught.value.column) == (message, column)


@pytest.mark.parametrize(("source", "paths"), PATHS)
def test_it_knows_what_it_reads(source: str, paths: set[str]) -> None:
    assert compile_expression(source).paths == paths


def test_it_knows_in_which_column_it_reads() -> None:
    reads = compile_expression("1 == event.a && has(event.b)").reads
    assert [(read.column, read.tested) for read in reads] == [(6, False), (21, True)]


def test_a_condition_must_be_true_or_false() -> None:
    assert compile_expression("event.subject == '12'").is_true(SCOPE)
    assert not compile_expression("event.subject == '13'").is_true(SCOPE)
    with pytest.raises(ExpressionError, match=r"the value must be true or false, not a string \(in: event.subject\)"):
        compile_expression("event.subject").is_true(SCOPE)


def test_a_long_object_is_told_in_part() -> None:
    scope = {"event": {f"f{number:02}": 1 for number in range(25)}}
    with pytest.raises(ExpressionError, match=r"f18, f19 and 5 more \(in: event.x\)$"):
        compile_expression("event.x").evaluate(scope)


def test_a_long_expression_is_told_in_part() -> None:
    source = "event.nope == '" + "x" * 300 + "'"
    with pytest.raises(ExpressionError, match=r"x\.\.\.\)$") as caught:
        compile_expression(source).evaluate(SCOPE)
    assert len(str(caught.value)) < 300
    with pytest.raises(ExpressionError, match=r"x\.\.\.\)$"):
        compile_expression(f"int({source}) == 1").evaluate(SCOPE)


def test_a_value_nested_without_end_is_an_error() -> None:
    deep: Any = []
    for _ in range(sys.getrecursionlimit()):
        deep = [deep]
    scope = {"event": {"a": deep, "b": [deep]}}
    with pytest.raises(ExpressionError, match="a value is nested too deep"):
        compile_expression("event.a == event.b[0]").evaluate({"event": {"a": deep, "b": [_copy(deep)]}})
    assert compile_expression("size(event.a)").evaluate(scope) == 1


def _copy(deep: list[Any]) -> list[Any]:
    depth = 0
    while deep:
        deep, depth = deep[0], depth + 1
    made: list[Any] = []
    for _ in range(depth):
        made = [made]
    return made


def test_a_field_name_that_is_no_text_is_shown_all_the_same() -> None:
    assert path_text(("event", "\ud800")) == r"event['\ud800']"
    with pytest.raises(ExpressionError, match="is not there"):
        compile_expression("event.a").evaluate({"event": {"\ud800": 1}})


def test_whole_numbers_too_long_for_fractions_are_an_error() -> None:
    with pytest.raises(ExpressionError, match="too large"):
        compile_expression("event.a + 1.0").evaluate({"event": {"a": 10**400}})


def test_a_value_that_is_no_json_is_named_by_its_type() -> None:
    with pytest.raises(ExpressionError, match=r"^event\.a\.b is not there; event\.a is a tuple"):
        compile_expression("event.a.b").evaluate({"event": {"a": ()}})


def test_expressions_of_one_source_are_equal() -> None:
    one, same, other = (compile_expression(source) for source in ("1 == 1", "1 == 1", "1 == 2"))
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert one != "1 == 1"
    assert repr(one) == "compile_expression('1 == 1')"


def test_a_path_that_is_there_is_not_missing() -> None:
    assert missing(SCOPE, ("event", "data", "list", 0)) is None
