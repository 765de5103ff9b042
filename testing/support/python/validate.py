"""Has the makers' own code read dashboards and monitors; whatever it does not know is printed, and ends in status 1.

validate.py datadog-dashboard FILE | datadog-monitor FILE | grafana FILE
"""

import json
import sys


def datadog(model, document):
    """Parts that no model of Datadog's API client takes."""
    from datadog_api_client.configuration import Configuration
    from datadog_api_client.model_utils import UnparsedObject, validate_and_convert_types

    def unknown(part, path):
        # What is one of several models keeps the one that it is apart, or the text that is none of them.
        parts = getattr(part, "_composed_instances", None) or [part]
        for part in parts:
            if isinstance(part, UnparsedObject):
                yield f"{path}: {part._data_store}"
            elif hasattr(part, "_data_store"):
                within = list(each(part._data_store, path))
                if not within and getattr(part, "_unparsed", False):
                    yield f"{path}: {part._data_store}"
                yield from within
            else:
                yield from each(part, path)

    def each(part, path):
        if isinstance(part, dict):
            for key, value in part.items():
                yield from unknown(value, f"{path}.{key}")
        elif isinstance(part, (list, tuple)):
            for number, value in enumerate(part):
                yield from unknown(value, f"{path}[{number}]")

    read = validate_and_convert_types(document, (model,), ["document"], True, True, Configuration())
    return unknown(read, "document")


def grafana(document):
    """Parts that are not the same after Grafana's SDK read and wrote them."""
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    written = json.loads(json.dumps(Dashboard.from_json(document), cls=JSONEncoder))

    def lost(before, after, path):
        if isinstance(before, dict) and isinstance(after, dict):
            for key, value in before.items():
                if key in after:
                    yield from lost(value, after[key], f"{path}.{key}")
                elif value not in ({}, [], None):
                    yield f"{path}.{key}: {value}"
        elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
            for number, pair in enumerate(zip(before, after)):
                yield from lost(*pair, f"{path}[{number}]")
        elif before != after:
            yield f"{path}: {before} became {after}"

    return lost(document, written, "dashboard")


def main():
    kind, file = sys.argv[1:]
    with open(file, encoding="utf-8") as text:
        document = json.load(text)
    if kind == "grafana":
        problems = list(grafana(document))
    elif kind == "datadog-dashboard":
        from datadog_api_client.v1.model.dashboard import Dashboard

        problems = list(datadog(Dashboard, document))
    else:
        from datadog_api_client.v1.model.monitor import Monitor

        problems = list(datadog(Monitor, document["definition"]))
    print("\n".join(problems))
    sys.exit(1 if problems else 0)


main()
