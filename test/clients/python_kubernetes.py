"""The official Python client, unmodified, against the control plane: typed and dynamic API, watch, patches, errors."""

import threading
import time
import uuid

from kubernetes import client, config, dynamic, watch
from kubernetes.client.rest import ApiException

config.load_kube_config()
core = client.CoreV1Api()
ns = f"py-{uuid.uuid4().hex[:8]}"
core.create_namespace({"metadata": {"name": ns}})

# a watch sees what is written after it began, in order
seen = []


def follow():
    for event in watch.Watch().stream(core.list_namespaced_config_map, ns, timeout_seconds=10):
        seen.append((event["type"], event["object"].metadata.name))
        if event["type"] == "DELETED" and event["object"].metadata.name == "one":
            return


thread = threading.Thread(target=follow)
thread.start()
time.sleep(0.5)
core.create_namespaced_config_map(ns, {"metadata": {"name": "one", "labels": {"a": "b"}}, "data": {"k": "v"}})
patched = core.patch_namespaced_config_map("one", ns, {"data": {"k": "w", "l": "x"}})
assert patched.data == {"k": "w", "l": "x"}, patched.data
listed = core.list_namespaced_config_map(ns, label_selector="a=b")
assert [c.metadata.name for c in listed.items] == ["one"], listed
core.delete_namespaced_config_map("one", ns)
thread.join(15)
ones = [kind for kind, name in seen if name == "one"]
assert ones == ["ADDED", "MODIFIED", "DELETED"], seen

# stale writes are refused
core.create_namespaced_config_map(ns, {"metadata": {"name": "two"}, "data": {"n": "0"}})
stale = core.read_namespaced_config_map("two", ns)
core.patch_namespaced_config_map("two", ns, {"data": {"n": "1"}})
stale.data = {"n": "2"}
try:
    core.replace_namespaced_config_map("two", ns, stale)
    raise SystemExit("a stale update was accepted")
except ApiException as error:
    assert error.status == 409, error

# a Secret's stringData arrives as data
secret = core.create_namespaced_secret(ns, {"metadata": {"name": "s"}, "stringData": {"password": "p"}})
assert secret.data == {"password": "cA=="}, secret.data
try:
    core.read_namespaced_secret("absent", ns)
    raise SystemExit("an absent Secret was found")
except ApiException as error:
    assert error.status == 404 and 'secrets \\"absent\\" not found' in error.body, error.body

# the dynamic client finds resources by discovery
dyn = dynamic.DynamicClient(client.ApiClient())
services = dyn.resources.get(api_version="v1", kind="Service")
made = services.create(
    namespace=ns,
    body={"kind": "Service", "apiVersion": "v1", "metadata": {"name": "svc"}, "spec": {"ports": [{"port": 80}]}},
)
assert made.spec.type == "ClusterIP" and made.spec.ports[0].protocol == "TCP", made

core.delete_namespace(ns)
for _ in range(100):
    if ns not in [n.metadata.name for n in core.list_namespace().items]:
        break
    time.sleep(0.1)
else:
    raise SystemExit(f"namespace {ns} was not deleted")
print("python kubernetes: ok")
