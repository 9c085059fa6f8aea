"""Reads YAML documents, holds each to the schemas of the Kubernetes versions that are named, and prints all as JSON."""

import json
import sys

import yaml

documents = [document for document in yaml.safe_load_all(sys.stdin) if document]
for version in sys.argv[1:]:
    # What is no document of Kubernetes is read without it.
    import kubernetes_validate

    for document in documents:
        kubernetes_validate.validate(document, version, strict=True)
json.dump(documents, sys.stdout)
