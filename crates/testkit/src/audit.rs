//! The audit log of a kube-apiserver as a source of what was asked. In: a file that grows. Out: what was asked for since the
//! last look, as the embedded control plane's access log tells it.
//!
//! What the log does not say is worked out: an apply that made an object (201) was asked for the right to create too; a Role
//! that was written rests on its rules, a binding on `bind` for its role or on the rules of that role. Which of both it was
//! nobody says: [`Write::ways`].

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::Value;

use crate::rights::{Refusal, Seen, Use, Write};

const RBAC: &str = "rbac.authorization.k8s.io";
const MASTERS: &str = "system:masters";

/// Reads on from where it was.
pub(crate) struct Tail {
    log: PathBuf,
    at: u64,
    /// Rules of the Roles and ClusterRoles that were written, by namespace and name.
    roles: BTreeMap<(String, String), Value>,
    bindings: BTreeMap<(String, String), Value>,
}

impl Tail {
    pub(crate) fn new(log: &Path, from: u64) -> Self {
        Self { log: log.to_owned(), at: from, roles: BTreeMap::new(), bindings: BTreeMap::new() }
    }

    pub(crate) fn read(&mut self, seen: &mut Seen) {
        let mut bytes = Vec::new();
        let mut file = File::open(&self.log).unwrap_or_else(|error| panic!("{}: {error}", self.log.display()));
        file.seek(SeekFrom::Start(self.at)).unwrap();
        file.read_to_end(&mut bytes).unwrap();
        // The last line may be half written.
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.at += whole as u64;
        let lines = bytes[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        for line in lines {
            self.take(&serde_json::from_slice(line).unwrap(), seen);
        }
    }

    fn take(&mut self, event: &Value, seen: &mut Seen) {
        let mut groups = event["user"]["groups"].as_array().into_iter().flatten();
        if groups.any(|group| group == MASTERS) {
            return;
        }
        let at: Timestamp = text(&event["requestReceivedTimestamp"]).parse().unwrap();
        let what = &event["objectRef"];
        let verb = text(&event["verb"]);
        let resource = match (text(&what["resource"]), text(&what["subresource"])) {
            (resource, subresource) if subresource.is_empty() => resource,
            (resource, subresource) => format!("{resource}/{subresource}"),
        };
        // The log takes the name of a created object from its body; the right is for the collection.
        let collection = verb == "create" && what["subresource"].is_null();
        let name = if collection { String::new() } else { text(&what["name"]) };
        let path = text(&event["requestURI"]);
        let asked = Use {
            user: text(&event["user"]["username"]),
            verb,
            group: text(&what["apiGroup"]),
            resource,
            namespace: text(&what["namespace"]),
            name,
            path: path.split('?').next().unwrap_or_default().to_owned(),
        };
        if event["annotations"]["authorization.k8s.io/decision"] != "allow" {
            seen.refusals.push(Refusal { what: asked, at });
            return;
        }
        let answer = &event["responseStatus"];
        let cannot_create = answer["code"] == 403 && text(&answer["message"]).contains("cannot create resource");
        let create = Use { verb: "create".to_owned(), ..asked.clone() };
        if asked.verb == "patch" && answer["code"] == 201 {
            seen.uses.insert(create);
        } else if asked.verb == "patch" && cannot_create {
            seen.refusals.push(Refusal { what: create, at });
        }
        if asked.group == RBAC
            && ["create", "update", "patch"].contains(&asked.verb.as_str())
            && answer["code"].as_u64().is_some_and(|code| code < 300)
            && let Some(ways) = self.ways(&asked, &event["responseObject"])
        {
            seen.writes.insert(Write { what: asked.clone(), ways });
        }
        seen.uses.insert(asked);
    }

    /// What the write of a Role or binding may rest on; nothing if it gives no more than before.
    fn ways(&mut self, asked: &Use, written: &Value) -> Option<Vec<Vec<Use>>> {
        let key = (asked.namespace.clone(), text(&written["metadata"]["name"]));
        match asked.resource.as_str() {
            "roles" | "clusterroles" => {
                let rules = written["rules"].clone();
                if self.roles.insert(key, rules.clone()).as_ref() == Some(&rules) {
                    return None;
                }
                Some(vec![expand(asked, &rules)])
            }
            "rolebindings" | "clusterrolebindings" => {
                let subjects = written["subjects"].clone();
                if self.bindings.insert(key, subjects.clone()).as_ref() == Some(&subjects) {
                    return None;
                }
                let role = &written["roleRef"];
                let name = text(&role["name"]);
                let (resource, place) = match role["kind"].as_str() {
                    Some("Role") => ("roles", asked.namespace.clone()),
                    _ => ("clusterroles", String::new()),
                };
                let bind =
                    Use { name: name.clone(), resource: resource.to_owned(), verb: "bind".to_owned(), ..asked.clone() };
                // Of roles that an administrator wrote nothing is known here: whoever binds them holds `bind`.
                let all = self.roles.get(&(place, name)).map(|rules| expand(asked, rules));
                Some(std::iter::once(vec![bind]).chain(all).collect())
            }
            _ => None,
        }
    }
}

fn expand(asked: &Use, rules: &Value) -> Vec<Use> {
    let mut uses = Vec::new();
    for rule in rules.as_array().into_iter().flatten() {
        let names = words(&rule["resourceNames"]);
        let names = if names.is_empty() { vec![String::new()] } else { names };
        for group in words(&rule["apiGroups"]) {
            for resource in words(&rule["resources"]) {
                for verb in words(&rule["verbs"]) {
                    for name in &names {
                        uses.push(Use {
                            verb: verb.clone(),
                            group: group.clone(),
                            resource: resource.clone(),
                            name: name.clone(),
                            ..asked.clone()
                        });
                    }
                }
            }
        }
    }
    uses
}

fn words(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(text).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::io::Write as _;

    fn event(verb: &str, what: Value, code: u16) -> Value {
        let decision = if code == 403 { "forbid" } else { "allow" };
        json!({
            "verb": verb, "objectRef": what, "requestURI": "/api?x=y", "responseStatus": {"code": code},
            "user": {"username": "system:serviceaccount:a:agent", "groups": ["system:authenticated"]},
            "annotations": {"authorization.k8s.io/decision": decision},
            "requestReceivedTimestamp": "2026-01-02T03:04:05.678901Z",
        })
    }

    fn line(used: &Use) -> String {
        format!("{} {} {:?}", used.verb, used.resource, used.name)
    }

    #[test]
    fn uses_are_read_as_the_embedded_log_tells_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let mut log = File::create(&path).unwrap();
        let mut tail = Tail::new(&path, 0);
        let secret = json!({"resource": "secrets", "namespace": "n", "name": "one", "apiVersion": "v1"});
        let role = json!({"resource": "roles", "namespace": "n", "name": "r", "apiGroup": RBAC});
        let mut written = event("patch", role, 200);
        written["responseObject"] = json!({
            "metadata": {"name": "r"},
            "rules": [{"apiGroups": [""], "resources": ["services"], "verbs": ["get"], "resourceNames": ["one"]}],
        });
        let binding = json!({"resource": "rolebindings", "namespace": "n", "name": "b", "apiGroup": RBAC});
        let mut binding = event("create", binding, 201);
        binding["responseObject"] =
            json!({"metadata": {"name": "b"}, "roleRef": {"kind": "Role", "name": "r"}, "subjects": [{}]});
        for event in [
            event("create", secret.clone(), 201),
            event("patch", secret.clone(), 201),
            event("get", secret, 403),
            written.clone(),
            written,
            binding,
            event("get", json!({"resource": "roles", "namespace": "n", "name": "r", "apiGroup": RBAC}), 200),
        ] {
            writeln!(log, "{event}").unwrap();
        }
        write!(log, "{{\"half\":").unwrap();
        let mut seen = Seen::default();
        tail.read(&mut seen);
        let uses: Vec<String> = seen.uses.iter().map(line).collect();
        assert_eq!(
            uses,
            [
                "create secrets \"\"",
                "create secrets \"one\"",
                "create rolebindings \"\"",
                "get roles \"r\"",
                "patch secrets \"one\"",
                "patch roles \"r\"",
            ]
        );
        let refused: Vec<String> = seen.refusals.iter().map(|refusal| line(&refusal.what)).collect();
        assert_eq!(refused, ["get secrets \"one\""]);
        assert_eq!(seen.refusals[0].at.to_string(), "2026-01-02T03:04:05.678901Z");
        let ways: Vec<Vec<String>> =
            seen.writes.iter().flat_map(|write| &write.ways).map(|way| way.iter().map(line).collect()).collect();
        let service = vec!["get services \"one\"".to_owned()];
        assert_eq!(
            ways,
            [vec!["bind roles \"r\"".to_owned()], service.clone(), service],
            "of the binding, then of the Role, once"
        );
        let all = (seen.uses.len(), seen.refusals.len(), seen.writes.len());
        tail.read(&mut seen);
        assert_eq!((seen.uses.len(), seen.refusals.len(), seen.writes.len()), all);
    }
}
