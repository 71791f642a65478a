//! `kubectl bind provider offer`: publishes a CRD in the catalogue (scenarios S7 and S14).
//!
//! In: the name of a CRD and whether it is shared on purpose. Out: the grant for the backend, for cluster-scoped kinds the
//! roles that their consumers and the backend need, with `--shared` the template's word for it, and last the label: it
//! must not promise what cannot be kept. What is there already is left alone, so twice is once.

use contract::rbac::backend;
use k8s_openapi::api::rbac::v1::{ClusterRole, Subject};
use kube_bind_api::GroupResource;
use kube_bind_api::constants::LABEL_EXPORTED;
use kube_client::api::ListQuery;
use kube_client::resource::Resource;
use kube_client::store::ObjectKey;
use serde::Serialize;
use serde_json::{Value, json};

use crate::cluster::{Cluster, kinds, text};
use crate::errors::CliError;
use crate::print;

pub(crate) async fn run(provider: &Cluster, crd: &str, shared: bool) -> Result<(), CliError> {
    let Some(found) = provider.get(&kinds::crds(), "", crd).await? else {
        return Err(CliError::Provider(format!(
            "there is no CustomResourceDefinition {crd}; its name is <plural>.<group>, see kubectl get crds"
        )));
    };
    let kind = GroupResource::new(text(&found, "/spec/group"), text(&found, "/spec/names/plural"));
    let cluster_scoped = text(&found, "/spec/scope") == "Cluster";
    if shared && !cluster_scoped {
        return Err(CliError::Provider(format!(
            "{crd} is namespaced, so each consumer has namespaces of its own and nothing is shared; leave --shared out"
        )));
    }
    let granted = grant(provider, &kind).await?;
    if cluster_scoped {
        allow(provider, &kind).await?;
    }
    let templates = if cluster_scoped { templates(provider, &kind).await? } else { Vec::new() };
    let mut news = Vec::new();
    if shared {
        news = share(provider, &kind, &templates).await?;
    }
    let labelled = label(provider, &found, crd).await?;
    let words = if granted || labelled { "is offered now" } else { "was offered already" };
    let mut message = format!("{crd} {words}.");
    if templates.is_empty() && news.is_empty() {
        message.push_str(" A template (APIServiceExportTemplate) can add a description, claims and a sample.");
    }
    message.push('\n');
    if cluster_scoped {
        let shared = shared || templates.iter().any(says_shared);
        message.push_str(&isolation(&kind, shared));
    }
    for line in news {
        message.push_str(&format!("{line}\n"));
    }
    print::line(&message)
}

/// What becomes of a cluster-scoped kind, for people.
fn isolation(kind: &GroupResource, shared: bool) -> String {
    let names = "It is cluster-scoped: objects of a consumer are named <contract>-<name> here (isolation Prefixed; with the \
                 backend's --isolation=None they keep their names).\n";
    let reach = if shared {
        "It is shared: several consumers can bind it. RBAC cannot fence by prefix, so the credential of each of them can \
         read, change and delete all objects of this kind here: those of the other consumers, and yours.\n"
            .to_owned()
    } else {
        format!(
            "RBAC cannot fence by prefix, so one consumer can bind it, whose credential reaches all objects of this kind \
             here; a second one is refused. To share it on purpose: {}\n",
            backend::share_command(kind)
        )
    };
    format!("{names}{reach}")
}

/// Lets the backend grant the kind; says whether that was news.
async fn grant(provider: &Cluster, kind: &GroupResource) -> Result<bool, CliError> {
    let Some(role) = provider.get(&kinds::cluster_roles(), "", backend::OFFERS).await? else {
        return Err(CliError::Provider(format!(
            "there is no ClusterRole {}, so no backend is installed here; install it first",
            backend::OFFERS
        )));
    };
    let typed: ClusterRole = serde_json::from_value(role.clone())
        .map_err(|error| CliError::Provider(format!("ClusterRole {}: {error}", backend::OFFERS)))?;
    if backend::is_granted(&typed, kind) {
        return Ok(false);
    }
    let mut rules = typed.rules.unwrap_or_default();
    rules.push(backend::offer_rule(kind));
    let patch = json!({"metadata": {"resourceVersion": role.pointer("/metadata/resourceVersion")}, "rules": rules});
    provider.merge_patch(&kinds::cluster_roles(), "", backend::OFFERS, &patch).await?;
    Ok(true)
}

/// The roles of a cluster-scoped kind: what its consumers may do, and that the backend may bind them to it.
async fn allow(provider: &Cluster, kind: &GroupResource) -> Result<(), CliError> {
    let Some(base) = provider.get(&kinds::cluster_role_bindings(), "", backend::BASE).await? else {
        return Err(CliError::Provider(format!(
            "there is no ClusterRoleBinding {}, so it is not known who the backend is; install the backend first",
            backend::BASE
        )));
    };
    let subjects: Vec<Subject> = serde_json::from_value(base.get("subjects").cloned().unwrap_or_else(|| json!([])))
        .map_err(|error| CliError::Provider(format!("ClusterRoleBinding {}: {error}", backend::BASE)))?;
    let (role, binding) = backend::keeper(kind, subjects);
    ensure(provider, &kinds::cluster_roles(), &backend::shared(kind), "rules").await?;
    ensure(provider, &kinds::cluster_roles(), &role, "rules").await?;
    ensure(provider, &kinds::cluster_role_bindings(), &binding, "subjects").await
}

/// Makes a cluster-scoped object exist with that field.
async fn ensure<T: Serialize>(
    provider: &Cluster,
    resource: &Resource,
    object: &T,
    field: &str,
) -> Result<(), CliError> {
    let mut body = json!(object);
    body["apiVersion"] = json!(resource.api_version());
    body["kind"] = json!(resource.kind);
    let name = text(&body, "/metadata/name").to_owned();
    match provider.get(resource, "", &name).await? {
        Some(live) if live[field] == body[field] => Ok(()),
        Some(_) => {
            provider.merge_patch(resource, "", &name, &json!({field: body[field]})).await?;
            Ok(())
        }
        None => {
            provider.create(resource, &ObjectKey::cluster(&name), &body).await.map_err(|error| provider.say(error))?;
            Ok(())
        }
    }
}

/// The templates that offer the kind.
async fn templates(provider: &Cluster, kind: &GroupResource) -> Result<Vec<Value>, CliError> {
    let all = provider.list(&kinds::templates(), &ListQuery::default()).await?;
    let offers = |template: &Value| {
        let resources = template.pointer("/spec/resources").and_then(Value::as_array);
        resources
            .into_iter()
            .flatten()
            .any(|own| text(own, "/group") == kind.group && text(own, "/resource") == kind.resource)
    };
    Ok(all.into_iter().filter(offers).collect())
}

fn says_shared(template: &Value) -> bool {
    template.pointer("/spec/sharedClusterScope") == Some(&json!(true))
}

/// Puts `sharedClusterScope: true` into the templates of the kind; makes one, named like the CRD as the offering is
/// without it, where there is none. Says what it did.
async fn share(provider: &Cluster, kind: &GroupResource, templates: &[Value]) -> Result<Vec<String>, CliError> {
    let word = json!({"spec": {"sharedClusterScope": true}});
    let mut news = Vec::new();
    for template in templates.iter().filter(|template| !says_shared(template)) {
        let name = text(template, "/metadata/name");
        provider.merge_patch(&kinds::templates(), "", name, &word).await?;
        news.push(format!("Its template {name} says sharedClusterScope: true now."));
    }
    if templates.is_empty() {
        let name = kind.crd_name();
        let resource = kinds::templates();
        let body = json!({
            "apiVersion": resource.api_version(), "kind": resource.kind, "metadata": {"name": name},
            "spec": {
                "scope": "Cluster", "sharedClusterScope": true,
                "resources": [{"group": kind.group, "resource": kind.resource}],
            },
        });
        provider.create(&resource, &ObjectKey::cluster(&name), &body).await.map_err(|error| provider.say(error))?;
        news.push(format!(
            "Made its template (APIServiceExportTemplate) {name}, which says sharedClusterScope: true; add a description, \
             claims and a sample there."
        ));
    }
    Ok(news)
}

/// Labels the CRD; says whether that was news.
async fn label(provider: &Cluster, found: &Value, crd: &str) -> Result<bool, CliError> {
    let labels = found.pointer("/metadata/labels");
    if labels.and_then(|labels| labels.get(LABEL_EXPORTED)).and_then(Value::as_str) == Some("true") {
        return Ok(false);
    }
    let patch = json!({"metadata": {"labels": {LABEL_EXPORTED: "true"}}});
    provider.merge_patch(&kinds::crds(), "", crd, &patch).await?;
    Ok(true)
}
