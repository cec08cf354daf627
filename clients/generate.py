#!/usr/bin/env python3
"""Writes the types of the clients from openapi/openapi.json; with --check it only says whether they are current.

Only the schemas of the calls that the clients make are written, so a change elsewhere in the document changes nothing here.
Python and TypeScript get unions as they are. Go and Java get, for what is sent, the form that says most (an object, else the
first named), and raw JSON for what is received in several forms.
"""

import json
import re
import sys
import textwrap
from pathlib import Path

HERE = Path(__file__).resolve().parent
DOCUMENT = json.loads((HERE.parent / "openapi" / "openapi.json").read_text("utf-8"))
SCHEMAS = DOCUMENT["components"]["schemas"]
# Those that the clients call, by operationId. `signPixels` counts once the document has it.
CALLS = {"countEvents", "getCap", "checkCandidates", "reserve", "release", "listUserCaps"}
NOTE = "Made by clients/generate.py from openapi/openapi.json. Do not edit."


def schemas_in(node):
    """The names of the schemas that a part of the document refers to, through others, too."""
    found, waiting = set(), [node]
    while waiting:
        here = waiting.pop()
        if isinstance(here, list):
            waiting.extend(here)
        elif isinstance(here, dict):
            name = here.get("$ref", "").rpartition("/")[2]
            if name and name not in found:
                found.add(name)
                waiting.append(SCHEMAS[name])
            waiting.extend(value for key, value in here.items() if key != "examples")
    return found


def used_schemas():
    """The names of the schemas of the clients' calls: those sent and those received, each sorted."""
    sent, received = set(), {"Problem"}
    for path in DOCUMENT["paths"].values():
        for operation in path.values():
            if isinstance(operation, dict) and operation.get("operationId") in CALLS:
                sent |= schemas_in(operation.get("requestBody", {}))
                received |= schemas_in(operation["responses"])
    return sorted(sent), sorted(received)


SENT, RECEIVED = used_schemas()


def shape(schema):
    """What a schema is, in one of these forms: ("ref", name), ("text",), ("enum", values), ("integer",), ("boolean",),
    ("list", shape), ("map", shape), ("object", properties, required), ("union", shapes), ("any",); and whether it may be null."""
    if "$ref" in schema:
        return ("ref", schema["$ref"].rpartition("/")[2]), False
    if "allOf" in schema:
        properties, required = {}, []
        for part in schema["allOf"]:
            part = SCHEMAS[part["$ref"].rpartition("/")[2]] if "$ref" in part else part
            (_, more, needed), _ = shape(part)
            properties.update(more)
            required += needed
        return ("object", properties, required), False
    branches = schema.get("oneOf") or schema.get("anyOf")
    if branches:
        kinds = [shape(branch)[0] for branch in branches if branch.get("type") != "null"]
        may_be_null = len(kinds) < len(branches)
        return (kinds[0] if len(kinds) == 1 else ("union", kinds)), may_be_null
    kind = schema.get("type")
    may_be_null = isinstance(kind, list) and "null" in kind
    if isinstance(kind, list):
        kind = next(one for one in kind if one != "null")
    if "enum" in schema:
        return ("enum", [value for value in schema["enum"] if value is not None]), may_be_null
    if kind == "string":
        return ("text",), may_be_null
    if kind in ("integer", "boolean", "number"):
        return (kind,), may_be_null
    if kind == "array":
        return ("list", shape(schema["items"])[0]), may_be_null
    if kind == "object" and schema.get("properties"):
        return ("object", schema["properties"], schema.get("required", [])), may_be_null
    if kind == "object" and schema.get("additionalProperties"):
        return ("map", shape(schema["additionalProperties"])[0]), may_be_null
    return ("any",), may_be_null


def fields(name):
    """The fields of a schema that is an object: (name, shape, may be null, required, description)."""
    form, _ = shape(SCHEMAS[name])
    if form[0] == "union":
        form = next((one for one in form[1] if one[0] == "object"), form)
    if form[0] != "object":
        return None
    rows = []
    for field, schema in form[1].items():
        kind, may_be_null = shape(schema)
        rows.append((field, kind, may_be_null, field in form[2], schema.get("description")))
    return rows


def says(text, prefix, width=110):
    """A description as comment lines, each led by `prefix`."""
    return [prefix + line for line in textwrap.wrap(" ".join((text or "").split()), width)]


def pascal(name):
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"[_\-]", name))


# ---- Python


def python_type(form):
    kind = form[0]
    if kind == "ref":
        return f'"{form[1]}"'
    if kind == "enum":
        return "Literal[" + ", ".join(f'"{value}"' for value in form[1]) + "]"
    if kind == "list":
        return f"List[{python_type(form[1])}]"
    if kind == "map":
        return f"Dict[str, {python_type(form[1])}]"
    if kind == "union":
        return "Union[" + ", ".join(python_type(one) for one in form[1]) + "]"
    if kind == "object":
        return "Dict[str, Any]"
    return {"text": "str", "integer": "int", "number": "float", "boolean": "bool"}.get(kind, "Any")


def python_class(name, rows, description, suffix=""):
    lines = [f"class {name}{suffix}(TypedDict):"]
    doc = says(description, "    ", 106)
    if doc:
        lines += ['    """' + doc[0].strip()] + doc[1:]
        lines[-1] += '"""'
    for field, form, may_be_null, required, text in rows:
        kind = python_type(form)
        kind = f"Optional[{kind}]" if may_be_null else kind
        lines += says(text, "    # ")
        lines.append(f"    {field}: {kind if required else f'NotRequired[{kind}]'}")
    return lines


def python():
    lines = [f"# {NOTE}", "from __future__ import annotations", "", "import sys"]
    lines += ["from typing import Any, Dict, List, Literal, Optional, TypedDict, Union", ""]
    lines += ["if sys.version_info >= (3, 11):", "    from typing import NotRequired", "else:"]
    lines += ["    from typing_extensions import NotRequired", ""]
    for name in sorted({*SENT, *RECEIVED}):
        form, _ = shape(SCHEMAS[name])
        description = SCHEMAS[name].get("description")
        lines.append("")
        if form[0] == "object":
            lines += python_class(name, fields(name), description)
        elif form[0] == "union" and fields(name):
            # The branch that is an object gets a name of its own.
            lines += python_class(name, fields(name), description, "Object")
            kinds = [f'"{name}Object"' if one[0] == "object" else python_type(one) for one in form[1]]
            lines += ["", "", f"{name} = Union[{', '.join(kinds)}]"]
        else:
            lines += says(description, "# ") + [f"{name} = {python_type(form)}"]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


# ---- TypeScript


def typescript_type(form):
    kind = form[0]
    if kind == "ref":
        return form[1]
    if kind == "enum":
        return " | ".join(f'"{value}"' for value in form[1])
    if kind == "list":
        inner = typescript_type(form[1])
        return f"({inner})[]" if " | " in inner else f"{inner}[]"
    if kind == "map":
        return f"Record<string, {typescript_type(form[1])}>"
    if kind == "union":
        return " | ".join(typescript_type(one) for one in form[1])
    if kind == "object":
        parts = []
        for field, schema in form[1].items():
            inner, may_be_null = shape(schema)
            mark = "" if field in form[2] else "?"
            parts.append(f"{field}{mark}: {typescript_type(inner)}{' | null' if may_be_null else ''}")
        return "{ " + "; ".join(parts) + " }"
    return {"text": "string", "integer": "number", "number": "number", "boolean": "boolean"}.get(kind, "unknown")


def typescript():
    lines = [f"// {NOTE}", ""]
    for name in sorted({*SENT, *RECEIVED}):
        form, _ = shape(SCHEMAS[name])
        doc = says(SCHEMAS[name].get("description"), " * ")
        lines += ["/**", *doc, " */"] if doc else []
        if form[0] == "object":
            lines.append(f"export interface {name} {{")
            for field, inner, may_be_null, required, text in fields(name):
                note = " ".join((text or "").split()).replace("*/", "* /")
                lines += [f"  /** {note} */"] if note else []
                null = " | null" if may_be_null else ""
                lines.append(f"  {field}{'' if required else '?'}: {typescript_type(inner)}{null};")
            lines.append("}")
        else:
            lines.append(f"export type {name} = {typescript_type(form)};")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


# ---- Go and Java: what both need


def sent_form(form):
    """Of the forms in which a thing may be sent: an object, else the first."""
    while form[0] in ("union", "ref"):
        if form[0] == "ref":
            inner, _ = shape(SCHEMAS[form[1]])
            if fields(form[1]) is not None:
                return form
            form = inner
        else:
            form = next((one for one in form[1] if one[0] == "object"), form[1][0])
    return form


def received_form(form):
    """What is received in several forms stays raw JSON."""
    if form[0] == "ref" and fields(form[1]) is None:
        return received_form(shape(SCHEMAS[form[1]])[0])
    if form[0] in ("union", "object"):
        return ("any",)
    return form


def typed_schemas():
    """The schemas that become a type of their own: (name, whether it is sent)."""
    for name in sorted({*SENT, *RECEIVED}):
        form, _ = shape(SCHEMAS[name])
        if fields(name) is not None and (form[0] == "object" or name in SENT):
            yield name, name in SENT


# ---- Go

GO_WORDS = {"id": "ID", "da": "DA", "ttl": "TTL", "url": "URL", "urls": "URLs"}


def go_name(field):
    return "".join(GO_WORDS.get(part, part[:1].upper() + part[1:]) for part in field.split("_"))


def go_type(form):
    kind = form[0]
    if kind == "ref":
        return form[1]
    if kind == "list":
        return "[]" + go_type(form[1])
    if kind == "map":
        return "map[string]" + go_type(form[1])
    return {"text": "string", "enum": "string", "integer": "int64", "number": "float64", "boolean": "bool"}.get(
        kind, "json.RawMessage"
    )


def inner_of(form, choose):
    """Applies a choice of forms within lists and maps, too."""
    if form[0] in ("list", "map"):
        return (form[0], inner_of(form[1], choose))
    chosen = choose(form)
    return inner_of(chosen, choose) if chosen[0] in ("list", "map") else chosen


def go():
    lines = [f"// Code generated by clients/generate.py from openapi/openapi.json. DO NOT EDIT.", "", "package freqcap", ""]
    body, raw = [], False
    for name, sent in typed_schemas():
        body += says(f"{name} is part of what is {'sent' if sent else 'received'}. {SCHEMAS[name].get('description') or ''}", "// ")
        body.append(f"type {name} struct {{")
        for number, (field, form, may_be_null, required, text) in enumerate(fields(name)):
            kind = go_type(inner_of(form, sent_form if sent else received_form))
            raw = raw or "json.RawMessage" in kind
            optional = may_be_null or not required
            plain = kind.startswith(("[]", "map[", "json."))
            pointer = "*" if optional and not plain and not (sent and kind == "string") else ""
            tag = f'`json:"{field}{",omitempty" if optional else ""}"`'
            body += [""] if number else []
            body += says(text, "\t// ")
            body.append(f"\t{go_name(field)} {pointer}{kind} {tag}")
        body += ["}", ""]
    lines += ['import "encoding/json"', ""] if raw else []
    return "\n".join(lines + body).rstrip() + "\n"


# ---- Java

JAVA_WORDS = {"default", "package", "class", "new", "long", "int", "public", "private", "if", "for", "do", "case"}


def java_name(field):
    first, *rest = field.split("_")
    name = first + "".join(part[:1].upper() + part[1:] for part in rest)
    return name + "_" if name in JAVA_WORDS else name


def java_type(form, boxed):
    kind = form[0]
    if kind == "ref":
        return form[1]
    if kind == "list":
        return f"List<{java_type(form[1], True)}>"
    if kind == "map":
        return f"Map<String, {java_type(form[1], True)}>"
    if kind in ("text", "enum"):
        return "String"
    whole = {"integer": ("long", "Long"), "number": ("double", "Double"), "boolean": ("boolean", "Boolean")}.get(kind)
    return whole[boxed] if whole else "JsonNode"


def java_doc(text, indent):
    lines = says((text or "").replace("*/", "* /").replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"), f"{indent} * ", 100)
    return [f"{indent}/**", *lines, f"{indent} */"] if lines else []


def java_sent(name):
    """A body: its required fields by `of`, the others by methods that give the body back."""
    rows = []
    for field, form, may_be_null, required, text in fields(name):
        rows.append((field, java_name(field), java_type(inner_of(form, sent_form), True), required, text))
    lines = java_doc(SCHEMAS[name].get("description"), "    ")
    lines += ["    @JsonInclude(JsonInclude.Include.NON_NULL)", f"    public static final class {name} {{"]
    for field, member, kind, _, text in rows:
        lines += java_doc(text, "        ") + [f'        @JsonProperty("{field}")', f"        public {kind} {member};"]
    form, _ = shape(SCHEMAS[name])
    order = (form if form[0] == "object" else next(one for one in form[1] if one[0] == "object"))[2]
    needed = sorted((row for row in rows if row[3]), key=lambda row: order.index(row[0]))
    lines += ["", f"        public static {name} of({', '.join(f'{kind} {member}' for _, member, kind, _, _ in needed)}) {{"]
    lines += [f"            {name} made = new {name}();"]
    lines += [f"            made.{member} = {member};" for _, member, _, _, _ in needed]
    lines += ["            return made;", "        }"]
    for _, member, kind, required, _ in rows:
        if not required:
            lines += ["", f"        public {name} {member}({kind} {member}) {{", f"            this.{member} = {member};"]
            lines += ["            return this;", "        }"]
    return lines + ["    }", ""]


def java_received(name):
    lines = java_doc(SCHEMAS[name].get("description"), "    ")
    lines += ["    @JsonIgnoreProperties(ignoreUnknown = true)", "    @JsonInclude(JsonInclude.Include.NON_NULL)", f"    public record {name}("]
    parts = []
    for field, form, may_be_null, required, _ in fields(name):
        kind = java_type(inner_of(form, received_form), may_be_null or not required)
        parts.append(f'        @JsonProperty("{field}") {kind} {java_name(field)}')
    return lines + [",\n".join(parts) + ") {", "    }", ""]


def java():
    lines = [f"// {NOTE}", "package dev.freqcap;", ""]
    lines += ["import com.fasterxml.jackson.annotation.JsonIgnoreProperties;"]
    lines += ["import com.fasterxml.jackson.annotation.JsonInclude;", "import com.fasterxml.jackson.annotation.JsonProperty;"]
    body = []
    for name, sent in typed_schemas():
        body += java_sent(name) if sent else java_received(name)
    text = "\n".join(body)
    lines += ["import com.fasterxml.jackson.databind.JsonNode;"] if "JsonNode" in text else []
    lines += ["import java.util.List;"] + (["import java.util.Map;"] if "Map<" in text else [])
    lines += ["", "/** What is sent and received. */", "public final class Types {", "    private Types() {", "    }", ""]
    return "\n".join(lines) + "\n" + text.rstrip() + "\n}\n"


FILES = {
    "python/src/freqcap/types.py": python,
    "typescript/src/types.ts": typescript,
    "go/types.go": go,
    "java/src/main/java/dev/freqcap/Types.java": java,
}


def main():
    stale = []
    for name, make in FILES.items():
        file, text = HERE / name, make()
        if file.exists() and file.read_text("utf-8") == text:
            continue
        stale.append(name)
        if sys.argv[1:] != ["--check"]:
            file.write_text(text, "utf-8")
            print(f"clients/{name} written")
    if stale and sys.argv[1:] == ["--check"]:
        sys.exit(f"Not what openapi/openapi.json says: {', '.join(stale)}. Mend it: python3 clients/generate.py")


main()
