"""What `.ci/api-fuzz` needs beside schemathesis.

prepare URL FILE  writes the server's document with ids that are there, so that requests reach what is stored
streams URL FILE  reads the beginning of each stream: schemathesis waits for ends, and streams have none
"""

import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request

TOKEN = os.environ["RUNLEDGER_TOKEN"]
# How many of each kind of id: few, so that those which belong together meet.
IDS = 3


def ask(url, path, **headers):
    headers = {"Authorization": f"Bearer {TOKEN}", **headers}
    request = urllib.request.Request(url + path, headers=headers)
    try:
        return urllib.request.urlopen(request, timeout=30)
    except urllib.error.HTTPError as error:
        return error


def read(url, path):
    with ask(url, path) as answer:
        return json.load(answer) if answer.status == 200 else {}


def rows(page):
    """The rows of a page, whatever its list is called."""
    if isinstance(page, list):
        return page
    return next((page[name] for name in ("items", "data", "turns") if isinstance(page.get(name), list)), [])


def quoted(part):
    return urllib.parse.quote(part, safe="")


def ids_of(url):
    """Ids that are stored, by the names of parameters."""
    found = {}

    def note(name, value):
        known = found.setdefault(name, [])
        if value and value not in known and len(known) < IDS:
            known.append(value)

    runs = rows(read(url, "/api/runs?limit=200"))
    for run in runs:
        note("run_id", run["run_id"])
        note("thread_id", run["thread_id"])
    for thread in found.get("thread_id", []):
        base = f"/api/threads/{quoted(thread)}"
        for item in rows(read(url, f"{base}/items?limit=20")):
            note("item_id", item["item_id"])
            note("call_id", item.get("call_id"))
        for blob in rows(read(url, f"{base}/blobs")):
            note("hash", blob["hash"])
        for asked in rows(read(url, f"{base}/interactions")):
            note("interaction_id", asked["interaction_id"])
    for agent_run in rows(read(url, "/api/agent-runs")):
        note("agent_run_id", agent_run["agent_run_id"])
    found.setdefault("owner", []).append("alice")
    return found


def prepare(url, file):
    document = read(url, "/api/openapi.json")
    found = ids_of(url)
    for item in document["paths"].values():
        for operation in item.values():
            for parameter in operation.get("parameters", []):
                if parameter["name"] == "timeout":
                    # Nobody ends the runs that are waited for.
                    parameter["schema"] = {"type": "integer", "minimum": 0, "maximum": 1}
                known = found.get(parameter["name"])
                if known:
                    parameter["schema"] = {"anyOf": [{"enum": known}, parameter["schema"]]}
    with open(file, "w", encoding="utf-8") as out:
        json.dump(document, out)
    count = sum(len(item) for item in document["paths"].values())
    told = ", ".join(f"{len(known)} of {name}" for name, known in sorted(found.items()))
    print(f"api-fuzz: {count} operations; ids that are there: {told}", flush=True)


def streams(url, file):
    with open(file, encoding="utf-8") as given:
        paths = [path for path in json.load(given)["paths"] if path.endswith("/stream")]
    found = ids_of(url)
    bad = asked = 0
    for path in paths:
        names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
        there, absent = path, path
        for name in names:
            there = there.replace("{%s}" % name, quoted((found.get(name) or ["none"])[0]))
            absent = absent.replace("{%s}" % name, "none")
        cases = [(there, {}), (there + "?after_seq=0", {}), (there, {"Last-Event-ID": "1"}), (absent, {})]
        cases += [(there, {"Last-Event-ID": odd}) for odd in ("-1", "x", "99999999999999999999", "9223372036854775807")]
        cases += [(there + f"?after_seq={odd}", {}) for odd in ("-1", "x", "18446744073709551615")]
        for case, headers in cases:
            asked += 1
            with ask(url, case, **headers) as answer:
                kind = answer.headers.get("Content-Type", "").split(";")[0]
                expected = "text/event-stream" if answer.status == 200 else "application/problem+json"
                if answer.status >= 500 or kind != expected:
                    bad += 1
                    print(f"api-fuzz: GET {case} {headers}: {answer.status} {kind}", file=sys.stderr)
    print(f"api-fuzz: {len(paths)} streams, {asked} requests, {bad} bad answers", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    command, url, file = sys.argv[1:4]
    sys.exit({"prepare": prepare, "streams": streams}[command](url, file) or 0)
