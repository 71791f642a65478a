#!/usr/bin/env python3
"""Writes the table of protobuf fields of the built-in kinds (crates/controlplane/src/registry/protobuf/fields.txt).

usage: protobuf-fields.py <Go module cache>/k8s.io <version of k8s.io/api, such as 0.36.3>

Reads field numbers, JSON names and types from the struct tags of the public API modules, for the kinds that
crates/controlplane/src/registry/builtin/kinds names and all they are made of. The format is explained at the top of the
table.
"""
import re
import sys
from pathlib import Path

cache, version = Path(sys.argv[1]), sys.argv[2]
root = Path(__file__).resolve().parents[1]
GROUPS = "core apps batch autoscaling rbac coordination events discovery networking policy scheduling storage " \
    "authentication authorization certificates admissionregistration node".split()
META = cache / f"apimachinery@v{version}/pkg/apis/meta/v1"
SPECIAL = {
    "resource.Quantity": "q", "intstr.IntOrString": "n", "runtime.RawExtension": "r", "meta/v1.FieldsV1": "r",
    "meta/v1.Time": "t", "meta/v1.MicroTime": "u",
    "string": "s", "bool": "b", "int32": "i", "int64": "i", "uint32": "i", "uint64": "i", "int": "i", "float64": "d",
    "types.UID": "s", "types.NodeName": "s",
}
# Messages on the wire, lists of strings in Go and JSON.
WRAPPED = {"meta/v1.Verbs", "authentication/v1.ExtraValue", "authorization/v1.ExtraValue", "certificates/v1.ExtraValue"}

structs, names = {}, {}


def read(package, folder):
    for file in sorted(folder.glob("*.go")):
        if file.name.startswith(("generated", "zz_", "doc", "register")) or file.name.endswith("_test.go"):
            continue
        text = re.sub(r"/\*.*?\*/", "", file.read_text(), flags=re.S)
        imports = {}
        for alias, path in re.findall(r'^\s*(?:import )?(\w+)? ?"(k8s\.io/[^"]+)"', text, flags=re.M):
            imports[alias or path.rsplit("/", 1)[1]] = path
        lines = [line for line in text.splitlines() if not line.strip().startswith("//")]
        at = 0
        while at < len(lines):
            match = re.match(r"type (\w+) struct \{", lines[at])
            alias = re.match(r"type (\w+) =? ?([\w.\[\]*]+)$", lines[at].split("//")[0].strip())
            if match and "}" not in lines[at]:
                fields = []
                at += 1
                while not lines[at].startswith("}"):
                    tag = re.search(r"`([^`]*)`", lines[at])
                    if tag and 'protobuf:"' in tag[1]:
                        kind = lines[at].split("`")[0].split()[-1]
                        json = re.search(r'json:"([^"]*)"', tag[1])
                        number = re.search(r'protobuf:"\w+,(\d+)', tag[1])
                        if number and json:
                            json = json[1].split(",")
                            fields.append((json[0], json[1:], int(number[1]), kind))
                    at += 1
                structs[f"{package}.{match[1]}"] = (fields, imports)
            elif alias:
                names[f"{package}.{alias[1]}"] = (alias[2], imports)
            at += 1


def full_name(kind, package, imports):
    """A Go type as package/version.Name, or as it is if it is a special one."""
    if kind in SPECIAL:
        return kind
    if "." not in kind:
        return f"{package}.{kind}"
    alias, name = kind.split(".")
    path = imports.get(alias, "")
    if path == "k8s.io/apimachinery/pkg/apis/meta/v1":
        return f"meta/v1.{name}"
    if path.startswith("k8s.io/api/"):
        return f"{path[len('k8s.io/api/'):]}.{name}"
    raise SystemExit(f"unknown type {kind} ({path}) in {package}")


def code(kind, package, imports, wanted):
    if kind == "[]byte":
        return "y"
    if kind.startswith("*"):
        return code(kind[1:], package, imports, wanted)
    if kind.startswith("[]"):
        return "*" + code(kind[2:], package, imports, wanted)
    mapped = re.match(r"map\[[\w.]+\](.*)", kind)
    if mapped:
        return "%" + code(mapped[1], package, imports, wanted)
    full = full_name(kind, package, imports)
    if full in WRAPPED:
        return "l"
    if full in SPECIAL:
        return SPECIAL[full]
    if full in names:
        other, other_imports = names[full]
        return code(other, full.rsplit(".", 1)[0], other_imports, wanted)
    if full not in structs:
        raise SystemExit(f"no struct {full}")
    wanted.append(full)
    return "@" + full


read("meta/v1", META)
for group in GROUPS:
    for folder in sorted((cache / f"api@v{version}" / group).glob("v[0-9]")):
        read(f"{group}/{folder.name}", folder)

builtin = root / "crates/controlplane/src/registry/builtin"
kinds = "".join(file.read_text() for file in [*builtin.glob("kinds.rs"), *builtin.glob("kinds/*.rs")])
kinds = set(re.findall(r'"([A-Z]\w+)"', kinds)) | {"TokenRequest"}
queue = [name for name in sorted(structs) if name.rsplit(".", 1)[1] in kinds and not name.startswith("meta/")]
queue += ["meta/v1.DeleteOptions"]
done, out = set(), []
while queue:
    name = queue.pop(0)
    if name in done:
        continue
    done.add(name)
    fields, imports = structs[name]
    package = name.rsplit(".", 1)[0]
    parts = []
    for json, options, number, kind in fields:
        what = code(kind, package, imports, queue)
        pointer = kind.startswith("*")
        flag = ""
        if "inline" in options and not json:
            flag, json = "^", "-"
        elif "omitzero" in options and not pointer:
            flag = "~"
        elif pointer or "omitempty" not in options:
            flag = "!"
        parts.append(f"{json}:{number}:{flag}{what}")
    out.append(f"{name} " + " ".join(parts))

header = f"""\
# The fields of built-in kinds in their protobuf form: facts from the struct tags of k8s.io/api v{version}.
# Made by scripts/protobuf-fields.py; do not edit.
#
# One message a line: its name, then for each field JSON-name:number:type.
# Types: s string, b bool, i integer, d double, y bytes (base64 in JSON), q quantity, n integer or string, t time,
# u time with microseconds, r raw JSON, l list of strings in a message, @name a message; before it * repeated, % a map
# from strings. Before that ! shown even if zero (a pointer in Go, or not omitempty), ~ left out if zero (omitzero),
# ^ its fields stand in the message around it (inline).
"""
target = root / "crates/controlplane/src/registry/protobuf/fields.txt"
target.write_text(header + "\n".join(sorted(out)) + "\n")
print(f"{len(out)} messages, {target.stat().st_size} bytes")
