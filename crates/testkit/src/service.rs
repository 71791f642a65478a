//! An API that a provider offers, made from a seed: group, kind, field names and schema. In: a seed. Out: CRD, template,
//! objects. What works for one must work for all.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

/// The offered API.
#[derive(Clone, Debug)]
pub struct Service {
    /// API group.
    pub group: String,
    /// API version.
    pub version: String,
    /// Kind.
    pub kind: String,
    /// Plural.
    pub plural: String,
    /// Name of the enumerated field in spec.
    pub choice: String,
    /// Its values.
    pub choices: Vec<String>,
    /// Name of the field in spec that names the Secret; it may lie below another one.
    pub secret_path: Vec<String>,
    /// Whether claims are made (a Secret by reference, a Service by name).
    pub claims: bool,
    /// Whether the kind is cluster-scoped for consumers.
    pub cluster_scoped: bool,
    /// Whether a cluster-scoped kind is namespaced at the provider: isolation `Namespaced`.
    pub isolated: bool,
    /// Further claims of the template.
    pub more_claims: Vec<Value>,
    /// Further fields of spec: name and schema.
    pub more_fields: Vec<(String, Value)>,
}

const SYLLABLES: [&str; 12] = ["ba", "de", "fi", "go", "ku", "lo", "mi", "na", "pe", "ro", "su", "ta"];

fn word(random: &mut StdRng, syllables: usize) -> String {
    (0..syllables).map(|_| *SYLLABLES.choose(random).unwrap_or(&"x")).collect()
}

impl Service {
    /// From a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let singular = word(&mut random, 3);
        let kind = singular[..1].to_uppercase() + &singular[1..];
        let secret_path = if random.random_bool(0.5) {
            vec![format!("{}Ref", word(&mut random, 2))]
        } else {
            vec![format!("{}Settings", word(&mut random, 2)), "secretName".to_owned()]
        };
        Self {
            group: format!("{}.example.com", word(&mut random, 2)),
            version: ["v1", "v1alpha1", "v1beta2"].choose(&mut random).map_or("v1", |v| v).to_owned(),
            plural: format!("{singular}s"),
            kind,
            choice: format!("{}Mode", word(&mut random, 2)),
            choices: (0..3).map(|i| format!("{}{i}", word(&mut random, 2))).collect(),
            secret_path,
            claims: true,
            cluster_scoped: false,
            isolated: false,
            more_claims: Vec::new(),
            more_fields: Vec::new(),
        }
    }

    /// The same API without claims.
    #[must_use]
    pub fn without_claims(mut self) -> Self {
        self.claims = false;
        self
    }

    /// The same API cluster-scoped for consumers, with one namespace for each of them at the provider.
    #[must_use]
    pub fn cluster_scoped(mut self) -> Self {
        self.cluster_scoped = true;
        self.isolated = true;
        self
    }

    /// The same API cluster-scoped on both sides: isolation `Prefixed`.
    #[must_use]
    pub fn prefixed(mut self) -> Self {
        self.cluster_scoped = true;
        self.isolated = false;
        self
    }

    /// The same API with a field in spec.
    #[must_use]
    pub fn with_field(mut self, name: &str, schema: Value) -> Self {
        self.more_fields.push((name.to_owned(), schema));
        self
    }

    /// The same API with a claim; references are filled with its own kind.
    #[must_use]
    pub fn with_claim(mut self, mut claim: Value) -> Self {
        // Looked at without making it: a real API server takes no null for a list.
        let references = claim.pointer_mut("/selector/references").and_then(Value::as_array_mut);
        for reference in references.into_iter().flatten() {
            reference["group"] = json!(self.group);
            reference["resource"] = json!(self.plural);
            reference["kind"] = json!(self.kind);
        }
        self.more_claims.push(claim);
        self
    }

    /// `plural.group`.
    #[must_use]
    pub fn crd_name(&self) -> String {
        format!("{}.{}", self.plural, self.group)
    }

    /// The kind as a resource.
    #[must_use]
    pub fn resource(&self) -> kube_client::resource::Resource {
        kube_client::resource::Resource::new(&self.group, &self.version, &self.plural, &self.kind)
    }

    /// The CustomResourceDefinition.
    #[must_use]
    pub fn crd(&self) -> Value {
        let mut secret = json!({"type": "string", "description": "Name of the Secret with the token."});
        for name in self.secret_path[1..].iter().rev() {
            secret = json!({"type": "object", "properties": {name: secret}});
        }
        let mut crd = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": self.crd_name(), "labels": {"kube-bind.io/exported": "true"}},
            "spec": {
                "group": self.group, "scope": if self.cluster_scoped && !self.isolated { "Cluster" } else { "Namespaced" },
                "names": {"plural": self.plural, "singular": self.plural.trim_end_matches('s'), "kind": self.kind, "listKind": format!("{}List", self.kind)},
                "versions": [{
                    "name": self.version, "served": true, "storage": true, "subresources": {"status": {}},
                    "additionalPrinterColumns": [{"name": "Phase", "type": "string", "jsonPath": ".status.phase"}],
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                        "spec": {"type": "object", "properties": {
                            self.choice.clone(): {"type": "string", "enum": self.choices},
                            "size": {"type": "integer", "default": 1, "minimum": 0},
                            "notes": {"type": "array", "items": {"type": "string"}},
                            "machinery": {"type": "string"},
                            self.secret_path[0].clone(): secret,
                        }},
                        "extra": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    }}},
                }],
            },
        });
        for (name, schema) in &self.more_fields {
            crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"][name] =
                schema.clone();
        }
        crd
    }

    /// The offering.
    #[must_use]
    pub fn template(&self) -> Value {
        let reference = |path: String| json!({"references": [{"group": self.group, "resource": self.plural, "kind": self.kind, "jsonPath": {"name": path}}]});
        let mut claims = if self.claims {
            json!([
                {"group": "", "resource": "secrets", "owner": "Provider", "verbs": ["create"], "selector": reference(format!(".spec.{}", self.secret_path.join(".")))},
                {"group": "", "resource": "services", "owner": "Provider", "verbs": ["create"], "selector": reference(".metadata.name".to_owned())},
            ])
        } else {
            json!([])
        };
        for claim in &self.more_claims {
            claims.as_array_mut().into_iter().for_each(|claims| claims.push(claim.clone()));
        }
        json!({
            "apiVersion": "kube-bind.io/v1alpha2", "kind": "APIServiceExportTemplate",
            "metadata": {"name": self.plural},
            "spec": {
                "description": "made from a seed", "scope": if self.cluster_scoped { "Cluster" } else { "Namespaced" },
                "resources": [{"group": self.group, "resource": self.plural, "versions": [self.version]}],
                "permissionClaims": claims,
                "example": self.object("default", "sample", "sample-token"),
            },
        })
    }

    /// An object that refers to a Secret.
    #[must_use]
    pub fn object(&self, namespace: &str, name: &str, secret: &str) -> Value {
        let mut value = json!(secret);
        for field in self.secret_path[1..].iter().rev() {
            value = json!({field: value});
        }
        let mut object = json!({
            "apiVersion": format!("{}/{}", self.group, self.version), "kind": self.kind,
            "metadata": {"name": name},
            "spec": {self.choice.clone(): self.choices[0], self.secret_path[0].clone(): value, "size": 2},
        });
        if !self.cluster_scoped {
            object["metadata"]["namespace"] = json!(namespace);
        }
        object
    }

    /// The Secret that an object names.
    #[must_use]
    pub fn secret_of<'a>(&self, object: &'a Value) -> Option<&'a str> {
        self.secret_path.iter().fold(&object["spec"], |value, field| &value[field]).as_str()
    }
}
