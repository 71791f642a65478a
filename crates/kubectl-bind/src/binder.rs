//! The bind itself: everything is looked at first, then written in an order that is safe at every point, then waited for.
//!
//! In: a contract's credential and decided requests. Out: bindings that are Connected and APIs that are served; or
//! nothing at all (what this run made is taken back). Both the browser flow and the file flow end here.

use std::time::Duration;

use kube_bind_api::constants::{CONSUMER_NAMESPACE, KUBECONFIG_KEY, LABEL_BINDING, LABEL_PROVIDER_KUBECONFIG};
use kube_bind_api::{ClaimState, ClusterSecretKeyRef, StatedClaim};
use kube_client::api::ListQuery;
use kube_client::resource::Resource;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::agent;
use crate::args::AgentArgs;
use crate::changes::Changes;
use crate::cluster::{Cluster, Permission, kinds, text};
use crate::commands::unbind;
use crate::errors::CliError;
use crate::kubeconfig::{endpoint, kubeconfig_of};
use crate::manifest::Request;
use crate::rights;

/// How long the provider may take to answer a request.
const PROVIDER_WAIT: Duration = Duration::from_secs(60);
/// A phase `Failed` must last this long: the agent may be about to find what it misses.
const FAILED_FOR: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(200);

/// What is to be bound.
pub(crate) struct Bind {
    pub(crate) consumer: Cluster,
    pub(crate) credential: Credential,
    pub(crate) requests: Vec<Request>,
    /// What the user typed, for people.
    pub(crate) url: Option<String>,
    pub(crate) agent: AgentArgs,
}

/// The contract's kubeconfig and the cluster it opens.
pub(crate) struct Credential {
    pub(crate) kubeconfig: Vec<u8>,
    pub(crate) provider: Cluster,
    /// A Secret in namespace `kube-bind` that holds it already.
    pub(crate) secret: Option<String>,
}

/// What is bound now.
pub(crate) struct Bound {
    /// `singular.group` of each kind.
    pub(crate) apis: Vec<String>,
    /// Whether there were claims and all of them are accepted.
    pub(crate) claims_accepted: bool,
}

impl Bind {
    /// Everything that can be found out before the first write (and, in the browser flow, before the question).
    pub(crate) async fn check(&self) -> Result<(), CliError> {
        for request in &self.requests {
            check_name(&request.name)?;
        }
        let look = agent::Look::at(&self.consumer).await?;
        let mut needed = needed(look.served.policies);
        for permission in look.permissions(&self.agent) {
            if !needed.contains(&permission) {
                needed.push(permission);
            }
        }
        let missing = self.consumer.missing(&needed).await?;
        if !missing.is_empty() {
            return Err(CliError::MissingPermissions {
                server: self.consumer.server.clone(),
                missing: missing.join(", "),
            });
        }
        let bindings = self.consumer.list(&kinds::bindings(), &ListQuery::default()).await?;
        for request in &self.requests {
            self.check_api(request, &bindings).await?;
            if let Some(binding) = find(&bindings, &request.name) {
                if binding.pointer("/metadata/deletionTimestamp").is_some() {
                    return Err(CliError::BindingTerminating { binding: request.name.clone() });
                }
                if !self.same_provider(binding).await? {
                    return Err(CliError::NameTaken { binding: request.name.clone(), url: url_of(binding) });
                }
            }
        }
        Ok(())
    }

    /// Nobody else may serve the kinds here already.
    async fn check_api(&self, request: &Request, bindings: &[Value]) -> Result<(), CliError> {
        for resource in &request.spec.resources {
            let wanted = resource.group_resource();
            let api = wanted.crd_name();
            let bound = |binding: &&Value| {
                let schemas = binding.pointer("/status/boundSchemas").and_then(Value::as_array).into_iter().flatten();
                schemas.into_iter().any(|schema| {
                    text(schema, "/group") == wanted.group && text(schema, "/resource") == wanted.resource
                })
            };
            let same = |binding: &&Value| text(binding, "/metadata/name") == request.name;
            if let Some(other) = bindings.iter().filter(bound).find(|binding| !same(binding)) {
                return Err(already_bound(api, other));
            }
            let Some(crd) = self.consumer.get(&kinds::crds(), "", &api).await? else { continue };
            match crd_owner(&crd) {
                Some(owner) if owner == request.name => match find(bindings, owner) {
                    Some(other) if !self.same_provider(other).await? => return Err(already_bound(api, other)),
                    _ => {}
                },
                // Without such a binding its objects belong to a contract that only that name continues.
                Some(owner) => {
                    let orphaned = CliError::OrphanedCrd { crd: api.clone(), binding: owner.to_owned() };
                    return Err(find(bindings, owner).map_or(orphaned, |other| already_bound(api, other)));
                }
                None => return Err(CliError::ForeignCrd { crd: api }),
            }
        }
        Ok(())
    }

    /// Whether an existing binding's credential opens the same contract.
    async fn same_provider(&self, binding: &Value) -> Result<bool, CliError> {
        let (namespace, name) =
            (text(binding, "/spec/kubeconfigSecretRef/namespace"), text(binding, "/spec/kubeconfigSecretRef/name"));
        let Some(secret) = self.consumer.get(&kinds::secrets(), namespace, name).await? else { return Ok(true) };
        Ok(kubeconfig_of(&secret, text(binding, "/spec/kubeconfigSecretRef/key")).is_none_or(|bytes| {
            endpoint(&bytes).is_none_or(|other| Some(other) == endpoint(&self.credential.kubeconfig))
        }))
    }

    /// Writes and waits; on failure or Ctrl-C nothing of this run stays.
    pub(crate) async fn perform(&self) -> Result<Bound, CliError> {
        let missing = self.crds_missing().await?;
        let mut changes = Changes::default();
        let result = tokio::select! {
            result = self.write(&mut changes) => result,
            _ = tokio::signal::ctrl_c() => Err(CliError::Interrupted),
        };
        match result {
            Ok(bound) => Ok(bound),
            Err(error) => {
                let mut left = changes.undo().await;
                left.extend(self.remove_crds(&missing).await);
                if left.is_empty() {
                    Err(error)
                } else {
                    Err(CliError::Leftovers { error: Box::new(error), left: left.join(", ") })
                }
            }
        }
    }

    /// Requested kinds that have no CRD here yet, each with the name of the binding it is for.
    async fn crds_missing(&self) -> Result<Vec<(String, String)>, CliError> {
        let mut missing = Vec::new();
        for request in &self.requests {
            for resource in &request.spec.resources {
                let name = resource.group_resource().crd_name();
                if self.consumer.get(&kinds::crds(), "", &name).await?.is_none() {
                    missing.push((name, request.name.clone()));
                }
            }
        }
        Ok(missing)
    }

    /// The agent leaves the CRD of a binding that goes; that of a failed bind goes too, unless somebody used it meanwhile.
    async fn remove_crds(&self, made: &[(String, String)]) -> Vec<String> {
        let mut left = Vec::new();
        for (name, binding) in made {
            let served = match self.consumer.get(&kinds::crds(), "", name).await {
                Ok(crd) => crd.as_ref().and_then(served_resource),
                Err(_) => None,
            };
            let Some(served) = served else { continue };
            match unbind::remove_empty(&self.consumer, binding, &[served]).await {
                Ok(used) => left.extend(used),
                Err(_) => left.push(format!("CustomResourceDefinition {name}")),
            }
        }
        left
    }

    async fn write(&self, changes: &mut Changes) -> Result<Bound, CliError> {
        self.namespace_settled().await?;
        let served = agent::ensure(changes, &self.consumer, &self.agent).await?;
        let secret = self.write_secret(changes).await?;
        for request in &self.requests {
            self.request(changes, request).await?;
            let claims = self.claims(request).await?;
            // The agent must have its rights before it sees the binding.
            let bound: Vec<_> = request.spec.resources.iter().map(|resource| resource.group_resource()).collect();
            let mut objects = rights::of_binding(&request.name, &bound, &claims);
            if served.policies && !claims.is_empty() {
                objects.splice(0..0, self.where_used(request, &claims).await?);
            }
            for object in objects {
                changes.ensure(&self.consumer, &object).await?;
            }
            self.write_binding(changes, request, &secret, &claims).await?;
        }
        let mut apis = Vec::new();
        for request in &self.requests {
            self.connected(&request.name).await?;
            apis.extend(self.served(request).await?);
            let bound: Vec<_> = request.spec.resources.iter().map(|resource| resource.group_resource()).collect();
            let (here, there) = (&self.consumer, &self.credential.provider);
            agent::finalizer_policy(changes, here, &self.agent, there, &request.name, &bound).await?;
        }
        let claims: Vec<&StatedClaim> =
            self.requests.iter().flat_map(|request| &request.spec.permission_claims).collect();
        let claims_accepted = !claims.is_empty() && claims.iter().all(|stated| stated.state() == ClaimState::Accepted);
        Ok(Bound { apis, claims_accepted })
    }

    /// A namespace that is still going (after an unbind of everything, say) takes nothing new.
    async fn namespace_settled(&self) -> Result<(), CliError> {
        let deadline = Instant::now() + PROVIDER_WAIT;
        while Instant::now() < deadline {
            match self.consumer.get(&kinds::namespaces(), "", CONSUMER_NAMESPACE).await? {
                Some(namespace) if namespace.pointer("/metadata/deletionTimestamp").is_some() => {
                    tokio::time::sleep(POLL).await
                }
                _ => return Ok(()),
            }
        }
        Err(CliError::NamespaceTerminating { namespace: CONSUMER_NAMESPACE.to_owned() })
    }

    /// The policy for the kind that the claims refer to, as the provider publishes it. The provider may not have published
    /// it yet; without it nothing can be bound anyway.
    async fn where_used(&self, request: &Request, claims: &[StatedClaim]) -> Result<Vec<Value>, CliError> {
        let bound: Vec<_> = request.spec.resources.iter().map(|resource| resource.group_resource()).collect();
        let kind = rights::referring(&bound, claims);
        let Some(kind) = kind else { return Ok(Vec::new()) };
        let provider = &self.credential.provider;
        let deadline = Instant::now() + PROVIDER_WAIT;
        while Instant::now() < deadline {
            if let Some(schema) = provider.get(&kinds::bound_schemas(), &provider.namespace, &kind.crd_name()).await?
                && let Some(resource) = served_resource(&schema)
            {
                return Ok(rights::where_used(&request.name, &resource.group, &resource.version, &resource.kind));
            }
            tokio::time::sleep(POLL).await;
        }
        Err(CliError::RequestUnanswered { name: request.name.clone(), seconds: PROVIDER_WAIT.as_secs() })
    }

    /// The Secret with the credential: those that open this contract already are all renewed, the one that a binding of
    /// this name refers to first; else one named like the first binding is made.
    async fn write_secret(&self, changes: &mut Changes) -> Result<String, CliError> {
        let ours = endpoint(&self.credential.kubeconfig);
        let mut names: Vec<String> = self.credential.secret.clone().into_iter().collect();
        if names.is_empty() {
            let there = self.consumer.list(&kinds::secrets(), &ListQuery::namespace(CONSUMER_NAMESPACE)).await?;
            let opens =
                |secret: &&Value| kubeconfig_of(secret, KUBECONFIG_KEY).is_some_and(|bytes| endpoint(&bytes) == ours);
            names = there.iter().filter(opens).map(|secret| text(secret, "/metadata/name").to_owned()).collect();
            let first = self.requests.first().map(|request| request.name.clone()).unwrap_or_default();
            if names.is_empty() && find(&there, &first).is_some() {
                return Err(CliError::ForeignSecret { namespace: CONSUMER_NAMESPACE.to_owned(), name: first });
            }
            let bound = self.consumer.get(&kinds::bindings(), "", &first).await?.unwrap_or_default();
            let named = text(&bound, "/spec/kubeconfigSecretRef/name").to_owned();
            names.sort_by_key(|name| *name != named);
            if names.is_empty() {
                names.push(first);
            }
        }
        for name in &names {
            let secret = json!({
                "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
                "metadata": {"name": name, "namespace": CONSUMER_NAMESPACE, "labels": {LABEL_PROVIDER_KUBECONFIG: "true"}},
                "data": {KUBECONFIG_KEY: k8s_openapi::ByteString(self.credential.kubeconfig.clone())},
            });
            changes.ensure(&self.consumer, &secret).await?;
        }
        Ok(names.swap_remove(0))
    }

    /// Asks the provider, and waits for its answer.
    async fn request(&self, changes: &mut Changes, request: &Request) -> Result<(), CliError> {
        let provider = &self.credential.provider;
        let namespace = provider.namespace.clone();
        // Whether we may look depends on the provider; it is asked for the better sentence only.
        if let Ok(Some(contract)) = provider.get(&kinds::namespaces(), "", &namespace).await
            && contract.pointer("/metadata/deletionTimestamp").is_some()
        {
            return Err(CliError::ContractEnding { contract: namespace });
        }
        if let Some(there) = provider.get(&kinds::requests(), &namespace, &request.name).await? {
            if !same_resources(&there, request) {
                return Err(CliError::RequestTaken { name: request.name.clone() });
            }
            if text(&there, "/status/phase") == "Failed" {
                provider.delete(&kinds::requests(), &there).await?;
            }
        }
        let object = json!({
            "apiVersion": kube_bind_api::API_VERSION, "kind": "APIServiceExportRequest",
            "metadata": {"name": request.name, "namespace": namespace}, "spec": request.spec,
        });
        let deadline = Instant::now() + PROVIDER_WAIT;
        let mut asked = false;
        let mut last = Value::Null;
        while Instant::now() < deadline {
            let there = provider.get(&kinds::requests(), &namespace, &request.name).await?;
            match there.as_ref().map(|there| (text(there, "/status/phase"), there)) {
                // One from before an unbind goes with the export that answered it; then this bind asks.
                Some(("Succeeded", _)) => {
                    if self.exported(&request.name).await? {
                        return Ok(());
                    }
                    asked = false;
                }
                Some(("Failed", there)) if asked => {
                    let message = text(there, "/status/terminalMessage");
                    let message = if message.is_empty() { ready_message(there) } else { message.to_owned() };
                    return Err(CliError::RequestFailed { name: request.name.clone(), message });
                }
                Some((_, there)) if there.pointer("/metadata/deletionTimestamp").is_none() => asked = true,
                // The provider removes answered requests after a while; the export is what counts.
                None if asked && self.exported(&request.name).await? => return Ok(()),
                None => {
                    changes.ensure(provider, &object).await?;
                    asked = true;
                }
                _ => {}
            }
            last = there.unwrap_or_default();
            tokio::time::sleep(POLL).await;
        }
        let (name, seconds) = (request.name.clone(), PROVIDER_WAIT.as_secs());
        Err(match ready_message(&last) {
            why if why.is_empty() => CliError::RequestUnanswered { name, seconds },
            why => CliError::RequestWaits { name, seconds, why },
        })
    }

    /// Whether the provider has an export of that name which is not on its way out.
    async fn exported(&self, name: &str) -> Result<bool, CliError> {
        let provider = &self.credential.provider;
        let export = provider.get(&kinds::exports(), &provider.namespace, name).await?;
        Ok(export.is_some_and(|export| export.pointer("/metadata/deletionTimestamp").is_none()))
    }

    /// The consumer's decisions; those of an earlier bind about other claims stay.
    async fn claims(&self, request: &Request) -> Result<Vec<StatedClaim>, CliError> {
        let there = self.consumer.get(&kinds::bindings(), "", &request.name).await?;
        let before = there.and_then(|there| there.pointer("/spec/permissionClaims").cloned()).unwrap_or_default();
        let before: Vec<StatedClaim> = serde_json::from_value(before).unwrap_or_default();
        Ok(rights::merge_decisions(before, request.spec.permission_claims.clone()))
    }

    async fn write_binding(
        &self,
        changes: &mut Changes,
        request: &Request,
        secret: &str,
        claims: &[StatedClaim],
    ) -> Result<(), CliError> {
        let there = self.consumer.get(&kinds::bindings(), "", &request.name).await?;
        let reference = ClusterSecretKeyRef {
            name: secret.to_owned(),
            key: KUBECONFIG_KEY.to_owned(),
            namespace: CONSUMER_NAMESPACE.to_owned(),
        };
        // The reference cannot change once it is there.
        let reference = there
            .as_ref()
            .and_then(|there| there.pointer("/spec/kubeconfigSecretRef").cloned())
            .unwrap_or_else(|| json!(reference));
        let mut spec = json!({"kubeconfigSecretRef": reference, "permissionClaims": claims});
        if let Some(url) = &self.url {
            spec["reference"] = json!({"export": {"url": url}});
        }
        let object = json!({
            "apiVersion": kube_bind_api::API_VERSION, "kind": "APIServiceBinding",
            "metadata": {"name": request.name}, "spec": spec,
        });
        changes.ensure(&self.consumer, &object).await?;
        Ok(())
    }

    async fn connected(&self, name: &str) -> Result<(), CliError> {
        let wait = Duration::from_secs(self.agent.wait.max(1));
        let deadline = Instant::now() + wait;
        let mut failed_since: Option<Instant> = None;
        let mut last = Value::Null;
        while Instant::now() < deadline {
            if let Some(binding) = self.consumer.get(&kinds::bindings(), "", name).await? {
                match text(&binding, "/status/phase") {
                    "Connected" => return Ok(()),
                    "Failed" | "ClaimedElsewhere" => {
                        let since = *failed_since.get_or_insert_with(Instant::now);
                        if since.elapsed() > FAILED_FOR {
                            return Err(CliError::BindingFailed {
                                binding: name.to_owned(),
                                reason: ready_message(&binding),
                            });
                        }
                    }
                    _ => failed_since = None,
                }
                last = binding;
            }
            tokio::time::sleep(POLL).await;
        }
        let message = ready_message(&last);
        let reason = if message.is_empty() {
            ". See kubectl bind status and the agent's log".to_owned()
        } else {
            format!(": {message}")
        };
        Err(CliError::NotConnected { binding: name.to_owned(), seconds: wait.as_secs(), reason })
    }

    /// Waits until each kind can be listed; gives `singular.group` of each.
    async fn served(&self, request: &Request) -> Result<Vec<String>, CliError> {
        let deadline = Instant::now() + Duration::from_secs(self.agent.wait.max(1));
        let mut apis = Vec::new();
        for wanted in &request.spec.resources {
            let name = wanted.group_resource().crd_name();
            loop {
                if let Some(crd) = self.consumer.get(&kinds::crds(), "", &name).await? {
                    let resource = served_resource(&crd);
                    if let Some(resource) = resource
                        && self.consumer.serves(&resource).await?
                    {
                        let singular = text(&crd, "/spec/names/singular");
                        let singular = if singular.is_empty() {
                            text(&crd, "/spec/names/kind").to_lowercase()
                        } else {
                            singular.to_owned()
                        };
                        apis.push(format!("{singular}.{}", wanted.group));
                        break;
                    }
                }
                if Instant::now() > deadline {
                    return Err(CliError::NotEstablished {
                        crd: format!("CustomResourceDefinition {name}"),
                        seconds: self.agent.wait,
                    });
                }
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(apis)
    }
}

/// What a person needs in the consumer cluster to bind, beside the agent's installation.
fn needed(policies: bool) -> Vec<Permission> {
    const RBAC: &str = "rbac.authorization.k8s.io";
    const ADMISSION: &str = "admissionregistration.k8s.io";
    let mut kinds = vec![
        ("", "secrets", CONSUMER_NAMESPACE),
        (RBAC, "clusterroles", ""),
        (RBAC, "clusterrolebindings", ""),
        ("kube-bind.io", "apiservicebindings", ""),
    ];
    if policies {
        kinds.extend([
            (ADMISSION, "validatingadmissionpolicies", ""),
            (ADMISSION, "validatingadmissionpolicybindings", ""),
        ]);
    }
    let both = |(group, resource, namespace)| {
        ["create", "patch"].map(|verb| Permission::new(verb, group, resource, namespace))
    };
    kinds.into_iter().flat_map(both).collect()
}

/// The first served version of a CRD (or of a bound schema, which has the same shape there), as something to list.
pub(crate) fn served_resource(crd: &Value) -> Option<Resource> {
    let versions = crd.pointer("/spec/versions").and_then(Value::as_array)?;
    let version = versions.iter().find(|version| version.pointer("/served") == Some(&Value::Bool(true)))?;
    Some(Resource::new(
        text(crd, "/spec/group"),
        text(version, "/name"),
        text(crd, "/spec/names/plural"),
        text(crd, "/spec/names/kind"),
    ))
}

/// The binding that a CRD belongs to: by our label, or by the owner reference of the Go release.
pub(crate) fn crd_owner(crd: &Value) -> Option<&str> {
    let label = crd.pointer("/metadata/labels").and_then(|labels| labels.get(LABEL_BINDING)).and_then(Value::as_str);
    label.or_else(|| {
        let owners = crd.pointer("/metadata/ownerReferences").and_then(Value::as_array)?;
        owners.iter().find(|owner| text(owner, "/kind") == "APIServiceBinding").map(|owner| text(owner, "/name"))
    })
}

/// A field of a condition.
pub(crate) fn condition<'a>(object: &'a Value, type_: &str, field: &str) -> &'a str {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    let found = conditions.into_iter().flatten().find(|condition| text(condition, "/type") == type_);
    found.and_then(|condition| condition.get(field)).and_then(Value::as_str).unwrap_or_default()
}

/// Why an object is not ready, in the words of its conditions.
pub(crate) fn ready_message(object: &Value) -> String {
    let (reason, message) = (condition(object, "Ready", "reason"), condition(object, "Ready", "message"));
    match (reason, message) {
        ("", message) => message.to_owned(),
        (reason, "") => reason.to_owned(),
        (reason, message) => format!("{message} ({reason})"),
    }
}

fn find<'a>(objects: &'a [Value], name: &str) -> Option<&'a Value> {
    objects.iter().find(|object| text(object, "/metadata/name") == name)
}

/// What a binding was bound from, for messages.
pub(crate) fn url_of(binding: &Value) -> String {
    let url = text(binding, "/spec/reference/export/url");
    let provider = text(binding, "/status/providerPrettyName");
    [url, provider, "unknown provider"].into_iter().find(|text| !text.is_empty()).unwrap_or_default().to_owned()
}

fn already_bound(api: String, binding: &Value) -> CliError {
    CliError::AlreadyBound { api, binding: text(binding, "/metadata/name").to_owned(), url: url_of(binding) }
}

fn same_resources(there: &Value, request: &Request) -> bool {
    let resources = there.pointer("/spec/resources").and_then(Value::as_array);
    let mut have: Vec<_> = resources
        .into_iter()
        .flatten()
        .map(|r| (text(r, "/group").to_owned(), text(r, "/resource").to_owned()))
        .collect();
    let mut want: Vec<_> = request.spec.resources.iter().map(|r| (r.group.clone(), r.resource.clone())).collect();
    have.sort();
    want.sort();
    have == want
}

/// Refuses a name that cannot name a binding.
pub(crate) fn check_name(name: &str) -> Result<(), CliError> {
    bad_name(name).map_or(Ok(()), |reason| Err(CliError::BadName { name: name.to_owned(), reason }))
}

/// Why a name cannot name a binding: it becomes a label's value and part of other names.
fn bad_name(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("it is empty; give one with --name".to_owned());
    }
    if name.len() > 63 {
        return Some(format!(
            "it has {} characters, and 63 are the most that fit into the names made from it; choose a shorter one with --name",
            name.len()
        ));
    }
    let well_formed = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'))
        && name.split('.').all(|part| !part.is_empty() && !part.starts_with('-') && !part.ends_with('-'));
    (!well_formed).then(|| {
        "only lower-case letters, digits, - and . between them are allowed; choose another with --name".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cannot_be_used_say_why() {
        assert_eq!(bad_name("acmedb"), None);
        assert_eq!(bad_name("a.b-c"), None);
        for (name, word) in [
            ("", "empty"),
            ("A", "lower-case"),
            ("-a", "lower-case"),
            ("a..b", "lower-case"),
            (&"a".repeat(64), "64 characters"),
        ] {
            assert!(bad_name(name).is_some_and(|reason| reason.contains(word)), "{name}");
        }
    }

    #[test]
    fn a_crd_belongs_to_a_binding_by_label_or_by_the_go_agents_owner_reference() {
        assert_eq!(crd_owner(&json!({"metadata": {"labels": {LABEL_BINDING: "a"}}})), Some("a"));
        assert_eq!(
            crd_owner(&json!({"metadata": {"ownerReferences": [{"kind": "APIServiceBinding", "name": "b"}]}})),
            Some("b")
        );
        assert_eq!(crd_owner(&json!({"metadata": {}})), None);
    }
}
