"""Checks rendered manifests, `{set: [manifest]}` in a JSON file, against the strict schemas of Kubernetes versions.

Prints a JSON line a version and set: {"id", "ok", "message"}.
"""

import json
import sys

import kubernetes_validate

VERSIONS = ["1.27", "1.31", "1.37"]  # the oldest that the chart takes, a common one, the newest with schemas

with open(sys.argv[1], encoding="utf-8") as file:
    sets = json.load(file)
for version in VERSIONS:
    for name, manifests in sets.items():
        faults = []
        for manifest in manifests:
            try:
                kubernetes_validate.validate(manifest, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                faults.append(f"{manifest['kind']} {manifest['metadata']['name']}: {error}")
        message = "; ".join(faults) or f"{len(manifests)} manifests"
        print(json.dumps({"id": f"kubernetes {version}, values {name}", "ok": not faults, "message": message}))
