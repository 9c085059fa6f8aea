"""Reads YAML documents, holds each to the schemas of the Kubernetes versions that are named, and prints all as JSON."""

import json
import sys

import kubernetes_validate
import yaml

documents = [document for document in yaml.safe_load_all(sys.stdin) if document]
for version in sys.argv[1:]:
    for document in documents:
        kubernetes_validate.validate(document, version, strict=True)
json.dump(documents, sys.stdout)
