"""What of KubeRay's RayJob our files use, as a strict JSON schema: no other key passes.

Written by hand after KubeRay's API reference (RayJob, ray.io/v1, KubeRay 1.5). `strict` makes
one of the whole CRD where its file is at hand.
"""

from typing import Any

TEXT, NUMBER, FLAG = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}
QUANTITY = {"anyOf": [{"type": "integer"}, {"type": "string", "pattern": r"^[0-9.]+([mkMGT]i?)?$"}]}
LABELS = {"type": "object", "additionalProperties": TEXT}
NAME = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63}


def one_of(*values):
    return {"enum": list(values)}


def many(item):
    return {"type": "array", "items": item, "minItems": 1}


def table(*needed: str, **keys: Any):
    required = {"required": list(needed)} if needed else {}
    return {"type": "object", "properties": keys, "additionalProperties": False, **required}


REFERENCE = table("name", name=NAME, key=TEXT, optional=FLAG)
RESOURCES = table(**{key: {"type": "object", "additionalProperties": QUANTITY,
                           "propertyNames": one_of("cpu", "memory", "nvidia.com/gpu")}
                     for key in ("requests", "limits")})  # fmt: skip
CONTAINER = table(
    "name", "image", "resources",
    name=NAME, image=TEXT, resources=RESOURCES,
    env=many(table("name", name=TEXT, value=TEXT, valueFrom=table(secretKeyRef=REFERENCE))),
    envFrom=many(table("secretRef", secretRef=REFERENCE)),
    volumeMounts=many(table("name", "mountPath", name=NAME, mountPath=TEXT)),
)  # fmt: skip
VOLUME = table(
    "name", name=NAME, configMap=REFERENCE, emptyDir=table(medium=one_of("Memory")),
    persistentVolumeClaim=table("claimName", claimName=NAME),
)  # fmt: skip
TERM = table(
    "key", "operator", key=TEXT, operator=one_of("In", "NotIn", "Exists"), values=many(TEXT)
)
NODES = table(nodeSelectorTerms=many(table(matchExpressions=many(TERM))))
POD = table(
    "containers",
    containers=many(CONTAINER), volumes=many(VOLUME), nodeSelector=LABELS,
    terminationGracePeriodSeconds=NUMBER,
    tolerations=many(table(key=TEXT, operator=one_of("Exists"), effect=one_of("NoSchedule"))),
    affinity=table(nodeAffinity=table(requiredDuringSchedulingIgnoredDuringExecution=NODES)),
)  # fmt: skip
TEMPLATE = table("spec", spec=POD)
HEAD = table("rayStartParams", "template", rayStartParams=LABELS, template=TEMPLATE)
WORKERS = table(
    "groupName", "replicas", "minReplicas", "maxReplicas", "template",
    groupName=NAME, replicas=NUMBER, minReplicas=NUMBER, maxReplicas=NUMBER, labels=LABELS,
    rayStartParams=LABELS, template=TEMPLATE,
)  # fmt: skip
CLUSTER = table(
    "rayVersion", "headGroupSpec", "workerGroupSpecs", "authOptions",
    rayVersion=TEXT, authOptions=table(mode=one_of("token")), enableInTreeAutoscaling=FLAG,
    autoscalerOptions=table(version=one_of("v2"), idleTimeoutSeconds=NUMBER),
    headGroupSpec=HEAD, workerGroupSpecs=many(WORKERS),
)  # fmt: skip
RAY_JOB = table(
    "apiVersion", "kind", "metadata", "spec",
    apiVersion=one_of("ray.io/v1"), kind=one_of("RayJob"),
    metadata=table("name", name={**NAME, "maxLength": 47}, labels=LABELS),
    spec=table(
        "entrypoint", "shutdownAfterJobFinishes", "activeDeadlineSeconds", "rayClusterSpec",
        entrypoint=TEXT, metadata=LABELS, shutdownAfterJobFinishes=FLAG, suspend=FLAG,
        ttlSecondsAfterFinished=NUMBER, activeDeadlineSeconds={"type": "integer", "minimum": 1},
        backoffLimit=NUMBER, submissionMode=one_of("K8sJobMode"), rayClusterSpec=CLUSTER,
    ),
)  # fmt: skip


def strict(schema: Any) -> Any:
    """Return a CRD's OpenAPI schema as JSON schema that refuses keys it does not name."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: strict(value) for key, value in schema.items()}
    if schema.get("x-kubernetes-int-or-string") is True:
        return {"type": ["integer", "string"]}
    if isinstance(schema.get("properties"), dict) and "type" in schema:
        found.setdefault("additionalProperties", False)
    return found
