"""The OpenAPI 3.1 document, made from what is declared.

There is nothing to keep in step: schemas come from the structs that decode and encode, parameters from
paths and query structs, refusals from the codes each operation lists plus those its plumbing implies.
All refusals of one status stand together, with their codes as an enum, because clients branch on `code`.

The document is the same bytes for the same declarations: operations in the order of their paths,
components by name. So a committed copy shows every change of the contract as a diff.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from kernel import limits
from kernel.codes import CODES
from runtime.http.idempotency import HEADER, REPLAYED_HEADER
from runtime.http.models import Model, Record
from runtime.http.negotiation import JSON
from runtime.http.operations import Operation, Operations
from runtime.http.problems import MEDIA_TYPE, FieldProblem, Problem
from runtime.http.schemas import property_schemas

_REF: Final = "#/components/schemas/{name}"
_PHRASES: Final = {
    200: "Done.",
    201: "Made; `Location` says where it stands.",
    202: "Accepted; the outcome will be known at `Location`.",
    204: "Done, and there is nothing to say.",
    304: "Not changed since the version the caller has.",
}
_METHOD_ORDER: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")

_HEADERS: Final[dict[str, Any]] = {
    "RequestId": {
        "description": "The name of this request in our logs; the caller's own `X-Request-ID` where sent.",
        "schema": {"type": "string"},
    },
    "IdempotentReplayed": {
        "description": "`true` when this is the stored answer of an earlier request with the same key.",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "Location": {"description": "Where the thing stands.", "schema": {"type": "string"}},
    "RetryAfter": {
        "description": "Seconds after which a repeat makes sense.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "WwwAuthenticate": {"description": "How to come in.", "schema": {"type": "string"}},
}


def document(
    contexts: Iterable[Operations], *, title: str, version: str, servers: Sequence[str] = ()
) -> dict[str, Any]:
    """The document of all operations that are not hidden."""
    contexts = list(contexts)
    operations = sorted(
        (operation for context in contexts for operation in context if not operation.hidden),
        key=lambda operation: (operation.path, _METHOD_ORDER.index(operation.method)),
    )
    _check_names(operations)
    models = {model for operation in operations for model in _models(operation)}
    ordered = [Problem, FieldProblem, *sorted(models, key=str)]
    schemas_of_models, components = msgspec.json.schema_components(ordered, ref_template=_REF)
    schemas = dict(zip(ordered, schemas_of_models, strict=True))
    _add_examples(ordered, components)
    _add_choices(ordered, components)
    _finish_problem(components)
    paths: dict[str, Any] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, schemas)
    result: dict[str, Any] = {"openapi": "3.1.0", "info": {"title": title, "version": version}}
    if servers:
        result["servers"] = [{"url": url} for url in servers]
    used = {operation.tag for operation in operations}
    result["tags"] = [
        {"name": context.tag, "description": context.description}
        for context in sorted(contexts, key=lambda context: context.tag)
        if context.tag in used
    ]
    result["paths"] = paths
    result["components"] = {
        "schemas": dict(sorted(components.items())),
        "headers": _HEADERS,
        "securitySchemes": {"accessToken": {"type": "http", "scheme": "bearer"}},
    }
    return result


def _check_names(operations: Sequence[Operation]) -> None:
    names = [operation.name for operation in operations]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"handlers of different operations have the same name: {', '.join(repeated)}")


def _models(operation: Operation) -> list[Any]:
    answers = [answer for answer in operation.answers.values() if answer not in (None, bytes)]
    return answers + ([operation.body] if operation.body not in (None, bytes) else [])


def _add_examples(models: Sequence[Any], components: dict[str, Any]) -> None:
    for model in _family(models):
        example = model.EXAMPLE
        if example is not None:
            msgspec.convert(example, model)
            name = model.__name__
            assert name in components, f"{name} has an example and two classes are called {name}"
            components[name]["examples"] = [dict(example)]


def _add_choices(models: Sequence[Any], components: dict[str, Any]) -> None:
    """Say of which fields one must be given."""
    for model in _family(models):
        if issubclass(model, Model):
            for keyword, names in (("oneOf", model.ONE_OF), ("anyOf", model.ANY_OF)):
                if names:
                    assert set(names) <= set(model.__struct_fields__), f"{model.__name__} has no such fields"
                    components[model.__name__][keyword] = [_is_given(name) for name in names]


def _is_given(name: str) -> dict[str, Any]:
    return {"required": [name], "properties": {name: {"not": {"type": "null"}}}}


def _family(models: Sequence[Any]) -> list[type[Model] | type[Record]]:
    """These structs and all structs inside them that have a place for an example."""
    found: dict[Any, None] = {}
    waiting = [msgspec.inspect.type_info(model) for model in models]
    while waiting:
        info = waiting.pop()
        if isinstance(info, msgspec.inspect.StructType):
            cls = info.cls
            if cls in found:
                continue
            found[cls] = None
            waiting += [field.type for field in info.fields]
        elif isinstance(info, msgspec.inspect.UnionType):
            waiting += info.types
        elif isinstance(info, msgspec.inspect.CollectionType):
            waiting.append(info.item_type)
        elif isinstance(info, msgspec.inspect.Metadata):
            waiting.append(info.type)
        elif isinstance(info, msgspec.inspect.DictType):
            waiting.append(info.value_type)
    return [cls for cls in found if isinstance(cls, type) and issubclass(cls, Model | Record)]


def _finish_problem(components: dict[str, Any]) -> None:
    """Problems carry facts of their own; those that several have are described."""
    problem = components["Problem"]
    problem["properties"]["errors"] = {
        "description": "Everything that is wrong with the content.",
        "type": "array",
        "items": {"$ref": _REF.format(name="FieldProblem")},
    }
    problem["properties"]["retry_after_ms"] = {
        "description": "`Retry-After`, finer.",
        "type": "integer",
        "minimum": 0,
    }


def _operation(operation: Operation, schemas: Mapping[Any, dict[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary,
    }
    if operation.description:
        result["description"] = operation.description
    parameters = _parameters(operation)
    if parameters:
        result["parameters"] = parameters
    if operation.body is not None:
        media_type, schema = ("*/*", {}) if operation.body is bytes else (JSON, schemas[operation.body])
        result["requestBody"] = {
            "required": not operation.body_optional,
            "content": {media_type: {"schema": schema}},
        }
    result["responses"] = _answers(operation, schemas) | _refusals(operation)
    if operation.auth:
        result["security"] = [{"accessToken": []}]
    return result


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in operation.parameters
    ]
    if operation.query is not None:
        required = {field.encode_name for field in msgspec.structs.fields(operation.query) if field.required}
        parameters += [
            {"name": name, "in": "query", "required": name in required, "schema": schema}
            for name, schema in property_schemas(operation.query).items()
        ]
    if operation.idempotent:
        parameters.append(
            {
                "name": str(HEADER),
                "in": "header",
                "required": True,
                "description": "Names the intent. A retry of the same request carries the same key "
                "and gets the same answer.",
                "schema": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": limits.idempotency_key_length_max,
                    "pattern": "^[!-~]+$",
                },
            }
        )
    parameters += [
        {"name": name, "in": "header", "required": False, "description": text, "schema": {"type": "string"}}
        for name, text in operation.reads_headers.items()
    ]
    return parameters


def _answers(operation: Operation, schemas: Mapping[Any, dict[str, Any]]) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, model in sorted(operation.answers.items()):
        headers = {"X-Request-ID": _header("RequestId")}
        if status in (201, 202):
            headers["Location"] = _header("Location")
        if operation.idempotent:
            headers[REPLAYED_HEADER] = _header("IdempotentReplayed")
        responses[str(status)] = {"description": _PHRASES.get(status, "Done."), "headers": headers}
        if model is not None:
            schema = {"type": "string"} if model is bytes else schemas[model]
            responses[str(status)]["content"] = {operation.media_type: {"schema": schema}}
    return responses


def refusals_of(operation: Operation) -> list[str]:
    """The codes an operation can answer with: its own, and those of the plumbing it asked for."""
    codes = [
        *operation.refuses,
        "not_acceptable",
        "validation_failed",
        "duplicate_parameter",
        "internal_error",
    ]
    if operation.parameters:
        codes.append("not_found")
    if operation.method != "GET":
        codes.append("engines_unsafe")  # refused for all of them at once (`shut_changes`)
    if operation.auth:
        codes.append("not_authenticated")
    if operation.body is not None or operation.method == "POST":
        codes += ["payload_too_large", "request_timeout", "unsupported_media_type"]
        if operation.body is not bytes:  # a call without a body refuses one, in the same words
            codes += ["malformed_json", "duplicate_key", "unknown_field"]
    if operation.idempotent:
        codes += ["idempotency_key_missing", "idempotency_key_invalid", "idempotency_key_reused"]
        codes.append("request_in_progress")
    return sorted(set(codes))


def _refusals(operation: Operation) -> dict[str, Any]:
    by_status: dict[int, list[str]] = {}
    for name in refusals_of(operation):
        by_status.setdefault(CODES[name].http_status, []).append(name)
    responses = {str(status): _refusal(status, names) for status, names in sorted(by_status.items())}
    responses["default"] = {
        "description": "Any other refusal, such as a wrong method or a request that is not HTTP.",
        "content": {MEDIA_TYPE: {"schema": {"$ref": _REF.format(name="Problem")}}},
    }
    return responses


def _refusal(status: int, names: Sequence[str]) -> dict[str, Any]:
    headers = {"X-Request-ID": _header("RequestId")}
    if status in (429, 503) or "request_in_progress" in names:
        headers["Retry-After"] = _header("RetryAfter")
    if status == 401:
        headers["WWW-Authenticate"] = _header("WwwAuthenticate")
    return {
        "description": "\n".join(f"* `{name}`: {CODES[name].title}" for name in names),
        "headers": headers,
        "content": {
            MEDIA_TYPE: {
                "schema": {
                    "allOf": [
                        {"$ref": _REF.format(name="Problem")},
                        {"type": "object", "properties": {"code": {"enum": list(names)}}},
                    ]
                }
            }
        },
    }


def _header(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/headers/{name}"}
