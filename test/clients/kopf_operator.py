"""A kopf operator on MongoUserResource, unmodified kopf, against the control plane.

The operator runs in this process; objects are made, changed and deleted with the official client. It must see every
step, keep its finalizer while it works, write status, and post Events.
"""

import threading
import time
import uuid

import kopf
from kubernetes import client, config

users = {}


@kopf.on.create("mkramb.com", "v1", "mongouserresources")
def created(spec, name, body, **_):
    users[name] = list(spec.get("roles", []))
    kopf.event(body, type="Normal", reason="UserCreated", message=f"user {spec['username']} exists")
    return {"user": spec["username"]}


@kopf.on.update("mkramb.com", "v1", "mongouserresources", field="spec.roles")
def changed(spec, name, **_):
    users[name] = list(spec["roles"])


@kopf.on.delete("mkramb.com", "v1", "mongouserresources")
def deleted(name, **_):
    users.pop(name, None)


config.load_kube_config()
custom = client.CustomObjectsApi()
core = client.CoreV1Api()
ns = f"kopf-{uuid.uuid4().hex[:8]}"
core.create_namespace({"metadata": {"name": ns}})
api = ("mkramb.com", "v1", ns, "mongouserresources")

ready, stop = threading.Event(), threading.Event()
runner = threading.Thread(
    target=lambda: kopf.run(namespaces=[ns], standalone=True, ready_flag=ready, stop_flag=stop, liveness_endpoint=None)
)
runner.start()
assert ready.wait(30), "the operator did not become ready"


def until(what, check):
    deadline = time.time() + 30
    while time.time() < deadline:
        try:
            value = check()
        except client.exceptions.ApiException as error:
            if error.status != 404:
                raise
            value = None
        if value:
            return value
        time.sleep(0.2)
    stop.set()
    raise SystemExit(f"not seen within 30 s: {what}")


try:
    custom.create_namespaced_custom_object(
        *api,
        {
            "apiVersion": "mkramb.com/v1",
            "kind": "MongoUserResource",
            "metadata": {"name": "ada"},
            "spec": {"username": "ada", "password": "s3cret"},
        },
    )
    until("the user is made, with the schema's default roles", lambda: users.get("ada") == [])
    made = until(
        "the handler's result in status",
        lambda: (o := custom.get_namespaced_custom_object(*api, "ada")).get("status", {}).get("created") and o,
    )
    assert made["status"]["created"] == {"user": "ada"}, made
    assert made["metadata"]["finalizers"], "kopf's finalizer is missing"
    custom.patch_namespaced_custom_object(*api, "ada", {"spec": {"roles": ["read", "read"]}})
    until("the changed roles", lambda: users.get("ada") == ["read", "read"])
    until(
        "the Event",
        lambda: [e for e in core.list_namespaced_event(ns).items if e.reason == "UserCreated"],
    )
    custom.delete_namespaced_custom_object(*api, "ada")
    until("the user is dropped", lambda: "ada" not in users)

    def gone():
        names = [o["metadata"]["name"] for o in custom.list_namespaced_custom_object(*api)["items"]]
        return "ada" not in names

    until("the object is gone", gone)
finally:
    stop.set()
    runner.join(20)
core.delete_namespace(ns)
print("kopf: ok")
