#!/usr/bin/env bash
# What people type into kubectl, old or new: usage kubectl.sh KUBECTL
set -euo pipefail
kubectl=$1
here=$(dirname "$0")
ns="kubectl-$RANDOM"
expect() { # expect WORDS COMMAND...: the output of the command contains the words
  local words=$1 out
  shift
  out=$("$@" 2>&1) || { echo "failed: $*"; echo "$out"; exit 1; }
  grep -qF -- "$words" <<<"$out" || { echo "expected '$words' from: $*"; echo "$out"; exit 1; }
}
expect "$ns created" "$kubectl" create namespace "$ns"
k() { "$kubectl" -n "$ns" "$@"; }
expect "" k apply -f "$here/mongouserresources.crd.yaml"
for _ in $(seq 50); do k get mongouserresources >/dev/null 2>&1 && break; sleep 0.1; done

# apply, get, describe, explain, edit, delete of a custom resource
cat >"$HOME/ada.yaml" <<Y
apiVersion: mkramb.com/v1
kind: MongoUserResource
metadata: {name: ada}
spec: {username: ada, password: s3cret}
Y
expect "created" k apply -f "$HOME/ada.yaml"
expect "unchanged" k apply -f "$HOME/ada.yaml"
sed -i 's/s3cret/changed/' "$HOME/ada.yaml"
expect "configured" k apply -f "$HOME/ada.yaml"
expect "changed" k get mongouserresource ada -o "jsonpath={.spec.password}"
expect "NAME" k get mur
expect "Username:" k describe mongouserresource ada
expect "roles" k explain mongouserresource.spec
KUBE_EDITOR="sed -i s/changed/edited/" expect "edited" k edit mongouserresource ada
expect "edited" k get mongouserresource ada -o yaml
expect "labeled" k label mongouserresource ada team=blue
expect "ada" k get mongouserresources -l team=blue -o name
expect "serverside-applied" k apply --server-side --force-conflicts -f "$HOME/ada.yaml"
sed -i 's/username: ada,/username: 7,/' "$HOME/ada.yaml"
if k apply -f "$HOME/ada.yaml" >"$HOME/out" 2>&1; then echo "a number was taken for a user name"; exit 1; fi
grep -q "username" "$HOME/out" || { cat "$HOME/out"; exit 1; }
expect "deleted" k delete mongouserresource ada

# built-in kinds: strategic merge, tables, watch, wait
expect "created" k create configmap settings --from-literal=a=1
expect "created" k create secret generic token --from-literal=t=x
expect "Opaque" k get secrets token
expect "patched" k patch configmap settings -p '{"data":{"b":"2"}}'
expect "map[a:1 b:2]" k get configmap settings -o "go-template={{.data}}"
k get configmaps -w --no-headers >"$HOME/watched" 2>/dev/null &
watcher=$!
sleep 1
expect "annotated" k annotate configmap settings seen=yes
expect "created" k create configmap later
sleep 1
kill $watcher 2>/dev/null || true
grep -q later "$HOME/watched" || { echo "the watch did not see 'later':"; cat "$HOME/watched"; exit 1; }
expect "kubernetes" "$kubectl" -n default get services
expect "yes" "$kubectl" auth can-i create secrets
expect "configmaps" "$kubectl" api-resources
expect "deleted" "$kubectl" delete namespace "$ns" --timeout=60s
echo "kubectl: ok"
