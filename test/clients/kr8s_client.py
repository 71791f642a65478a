"""kr8s, unmodified, against the control plane: its own discovery, objects, labels, waits and deletion."""

import uuid

import kr8s
from kr8s.objects import ConfigMap, Namespace, Secret

name = f"kr8s-{uuid.uuid4().hex[:8]}"
space = Namespace({"metadata": {"name": name}})
space.create()
assert space.exists()

settings = ConfigMap({"metadata": {"name": "settings", "namespace": name}, "data": {"a": "1"}})
settings.create()
settings.patch({"data": {"b": "2"}})
settings.refresh()
assert dict(settings.data) == {"a": "1", "b": "2"}, settings.raw
settings.label({"team": "blue"})
found = list(kr8s.get("configmaps", namespace=name, label_selector={"team": "blue"}))
assert [c.name for c in found] == ["settings"], found

Secret({"metadata": {"name": "token", "namespace": name}, "stringData": {"t": "x"}}).create()
secret = Secret.get("token", namespace=name)
assert secret.raw["data"]["t"] == "eA==", secret.raw

settings.delete()
settings.wait("delete", timeout=20)
assert not settings.exists()
space.delete()
space.wait("delete", timeout=30)
print("kr8s: ok")
