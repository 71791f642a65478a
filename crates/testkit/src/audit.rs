//! The audit log of a kube-apiserver as a source of [`Use`]s. In: a file that grows. Out: what was asked for since the last
//! look, as the embedded control plane's access log tells it.
//!
//! What the log does not say is worked out: an apply that made an object (201) was asked for the right to create too; a Role
//! that was written rests on its rules, a binding on `bind` for its role or on the rules of that role.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::rights::Use;

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

    pub(crate) fn read(&mut self) -> Vec<Use> {
        let mut bytes = Vec::new();
        let mut file = File::open(&self.log).unwrap_or_else(|error| panic!("{}: {error}", self.log.display()));
        file.seek(SeekFrom::Start(self.at)).unwrap();
        file.read_to_end(&mut bytes).unwrap();
        // The last line may be half written.
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.at += whole as u64;
        let lines = bytes[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.flat_map(|line| self.uses(&serde_json::from_slice(line).unwrap())).collect()
    }

    fn uses(&mut self, event: &Value) -> Vec<Use> {
        let mut groups = event["user"]["groups"].as_array().into_iter().flatten();
        if groups.any(|group| group == MASTERS) {
            return Vec::new();
        }
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
            allowed: event["annotations"]["authorization.k8s.io/decision"] == "allow",
            verb,
            group: text(&what["apiGroup"]),
            resource,
            namespace: text(&what["namespace"]),
            name,
            path: path.split('?').next().unwrap_or_default().to_owned(),
            granted: false,
        };
        let mut uses = vec![asked.clone()];
        if !asked.allowed {
            return uses;
        }
        let answer = &event["responseStatus"];
        let cannot_create = text(&answer["message"]).contains("cannot create resource");
        if asked.verb == "patch" && (answer["code"] == 201 || (answer["code"] == 403 && cannot_create)) {
            uses.push(Use { verb: "create".to_owned(), allowed: answer["code"] == 201, ..asked.clone() });
        }
        if asked.group == RBAC && answer["code"].as_u64().is_some_and(|code| code < 300) {
            uses.extend(self.grants(&asked, &event["responseObject"]));
        }
        uses
    }

    /// What the write of a Role or binding rests on.
    fn grants(&mut self, asked: &Use, written: &Value) -> Vec<Use> {
        let key = (asked.namespace.clone(), text(&written["metadata"]["name"]));
        match asked.resource.as_str() {
            "roles" | "clusterroles" => {
                let rules = written["rules"].clone();
                if self.roles.insert(key, rules.clone()).as_ref() == Some(&rules) {
                    return Vec::new();
                }
                expand(asked, &rules)
            }
            "rolebindings" | "clusterrolebindings" => {
                let subjects = written["subjects"].clone();
                if self.bindings.insert(key, subjects.clone()).as_ref() == Some(&subjects) {
                    return Vec::new();
                }
                let role = &written["roleRef"];
                let name = text(&role["name"]);
                let (resource, place) = match role["kind"].as_str() {
                    Some("Role") => ("roles", asked.namespace.clone()),
                    _ => ("clusterroles", String::new()),
                };
                let bind = Use {
                    name: name.clone(),
                    resource: resource.to_owned(),
                    verb: "bind".to_owned(),
                    granted: true,
                    ..asked.clone()
                };
                let rules = self.roles.get(&(place, name)).filter(|_| resource == "roles").cloned();
                expand(asked, &rules.unwrap_or_default()).into_iter().chain([bind]).collect()
            }
            _ => Vec::new(),
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
                            granted: true,
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
        })
    }

    fn line(used: &Use) -> String {
        format!("{} {} {:?} {} {}", used.verb, used.resource, used.name, used.allowed, used.granted)
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
        for event in [
            event("create", secret.clone(), 201),
            event("patch", secret.clone(), 201),
            event("get", secret, 403),
            written.clone(),
            written,
        ] {
            writeln!(log, "{event}").unwrap();
        }
        write!(log, "{{\"half\":").unwrap();
        let seen: Vec<String> = tail.read().iter().map(line).collect();
        assert_eq!(
            seen,
            [
                "create secrets \"\" true false",
                "patch secrets \"one\" true false",
                "create secrets \"one\" true false",
                "get secrets \"one\" false false",
                "patch roles \"r\" true false",
                "get services \"one\" true true",
                "patch roles \"r\" true false",
            ]
        );
        assert!(tail.read().is_empty());
    }
}
