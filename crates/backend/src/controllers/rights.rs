//! Writes the rights that `contract::rbac` generates: the backend's own in a namespace first, then the consumer's.
//!
//! In: an export, its kinds, the claimed objects. Out: RoleBindings of ours and Roles of the consumer, created or changed
//! only where they differ. Called by [`super::mapped`], [`super::export`], [`super::unbind`] and `contracts`.

use std::collections::BTreeSet;

use contract::claimed::Grants;
use contract::names::Strategy;
use contract::rbac::{self, backend, provider};
use k8s_openapi::api::rbac::v1::Subject;
use kube_bind_api::constants::KUBE_BINDER;
use kube_bind_api::{APIServiceExport, BoundSchemaSpec, BoundSchemaVersion, GroupResource, Scope};
use kube_client::{Api, ApiError, Class, ObjectKey, Resource, Subresource};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Trouble, World};
use crate::contracts::{MANAGER, patiently};
use crate::resources;

/// Annotation on mapped namespaces, and on contract namespaces with objects in them (isolation `Namespaced`): the kinds
/// whose objects must be gone before the namespace goes: all that were ever exported into it, because an export may end and
/// leave its objects.
pub const ANNOTATION_KINDS: &str = "backend.kube-bind.io/exported-kinds";

/// Annotation on mapped namespaces: the exported kinds that are cluster-scoped for the consumer. What they refer to lies in
/// the namespace, which stays while the contract has objects of them.
pub const ANNOTATION_WIDE_KINDS: &str = "backend.kube-bind.io/exported-cluster-kinds";

/// Us, as RBAC names us.
#[must_use]
pub fn ourselves(user: &str) -> Subject {
    match user.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':')) {
        Some((namespace, name)) => rbac::service_account(namespace, name),
        None => Subject {
            kind: "User".to_owned(),
            name: user.to_owned(),
            api_group: Some(rbac::RBAC_GROUP.to_owned()),
            namespace: None,
        },
    }
}

/// Makes the object exist with these fields; writes nothing if it does.
async fn same<T: Serialize>(api: &Api, kind: &Resource, object: &T, fields: &[&str]) -> Result<(), ApiError> {
    let mut wanted = serde_json::to_value(object).unwrap_or_default();
    wanted["apiVersion"] = json!(kind.api_version());
    wanted["kind"] = json!(kind.kind);
    let key = ObjectKey::of(&wanted).unwrap_or_else(|| ObjectKey::cluster(""));
    let Some(live) = patiently(|| api.get_opt(kind, &key)).await? else {
        return match patiently(|| api.create(kind, key.namespace(), &wanted)).await {
            Err(err) if err.class != Class::AlreadyExists => Err(err),
            _ => Ok(()),
        };
    };
    let mut patch = json!({});
    for field in fields.iter().filter(|field| live[**field] != wanted[**field]) {
        patch[*field] = wanted[*field].clone();
    }
    if patch == json!({}) {
        return Ok(());
    }
    patiently(|| api.merge_patch(kind, &key, Subresource::Main, &patch, MANAGER)).await.map(|_| ())
}

/// A consumer's Role and RoleBinding.
///
/// # Errors
/// Those of the API server.
pub async fn grant(api: &Api, grant: &provider::Grant) -> Result<(), ApiError> {
    same(api, &resources::roles(), &grant.role, &["rules"]).await?;
    same(api, &resources::role_bindings(), &grant.role_binding, &["subjects"]).await
}

/// Our own rights in a contract namespace.
///
/// # Errors
/// Those of the API server.
pub async fn ours_in_contract(api: &Api, user: &str, namespace: &str) -> Result<(), ApiError> {
    same(api, &resources::role_bindings(), &backend::contracts_in(&ourselves(user), namespace), &["subjects"]).await
}

/// Our own rights in a mapped namespace.
///
/// # Errors
/// Those of the API server.
pub async fn ours_in_mapped(api: &Api, user: &str, namespace: &str) -> Result<(), ApiError> {
    same(api, &resources::role_bindings(), &backend::offers_in(&ourselves(user), namespace), &["subjects"]).await
}

/// Rights of an export that do not depend on mapped namespaces: objects in the contract namespace (isolation
/// `Namespaced`), and cluster-scoped objects.
///
/// # Errors
/// Those of the API server.
pub async fn outside_mapped(
    world: &World,
    export: &APIServiceExport,
    schemas: &[BoundSchemaSpec],
) -> Result<(), Trouble> {
    let name = export.metadata.name.as_deref().unwrap_or_default();
    let contract = export.metadata.namespace.as_deref().unwrap_or_default();
    let of = |wanted: &[Strategy]| -> Vec<GroupResource> {
        let fits = |spec: &&BoundSchemaSpec| wanted.contains(&Strategy::of(spec.scope, export.spec.isolation));
        schemas.iter().filter(fits).map(BoundSchemaSpec::group_resource).collect()
    };
    let here = of(&[Strategy::Namespaced]);
    if !here.is_empty() {
        let lodged = schemas.iter().filter(|spec| here.contains(&spec.group_resource())).filter_map(synced);
        note(world, contract, &lodged.map(|(kind, _)| kind).collect::<Vec<_>>()).await?;
        ours_in_mapped(&world.api, &world.issuing.user, contract).await?;
        let input = provider::Mapped {
            contract_namespace: contract,
            namespace: contract,
            export: name,
            exported: &here,
            claimed: &Grants::default(),
            open: &[],
        };
        grant(&world.api, &provider::mapped(&input)).await?;
    }
    for kind in of(&[Strategy::Prefixed, Strategy::None]) {
        share(world, &kind).await?;
    }
    Ok(())
}

/// A kind in the version that the agent uses, and that version.
pub(super) fn synced(spec: &BoundSchemaSpec) -> Option<(Resource, &BoundSchemaVersion)> {
    let version = contract::schema::sync_version(spec)?;
    Some((Resource::new(&spec.group, &version.name, &spec.names.plural, &spec.names.kind), version))
}

/// Notes on a contract namespace which kinds lie in it, before anybody may put objects there.
async fn note(world: &World, contract: &str, kinds: &[Resource]) -> Result<(), Trouble> {
    let (resource, key) = (resources::namespaces(), ObjectKey::cluster(contract));
    let Some(live) = world.api.get_opt(&resource, &key).await? else { return Ok(()) };
    let text = kinds_with(&live, ANNOTATION_KINDS, kinds);
    if live["metadata"]["annotations"][ANNOTATION_KINDS] == text.as_str() {
        return Ok(());
    }
    // Over what was read only: another export of the contract may be at it too.
    let patch = json!({"metadata": {
        "resourceVersion": live["metadata"]["resourceVersion"], "annotations": {ANNOTATION_KINDS: text},
    }});
    world.api.merge_patch(&resource, &key, Subresource::Main, &patch, MANAGER).await?;
    Ok(())
}

/// Cluster-scoped objects of a shared kind: RBAC knows no prefixes, so all contracts that export the kind are bound to
/// one ClusterRole that the provider has made for it.
async fn share(world: &World, kind: &GroupResource) -> Result<(), Trouble> {
    let resource = resources::cluster_role_bindings();
    let key = ObjectKey::cluster(&backend::shared_name(kind));
    // Read before the consumers are counted, and written only over what was read: two exports at once cannot undo each
    // other.
    let live = world.api.get_opt(&resource, &key).await?;
    let mut contracts = BTreeSet::new();
    for (key, entry) in world.exports.all() {
        let spec = &entry.summary["spec"];
        let exported = spec["resources"].as_array().is_some_and(|list| {
            list.iter().any(|item| item["group"] == kind.group.as_str() && item["resource"] == kind.resource.as_str())
        });
        if exported && entry.summary["metadata"]["deletionTimestamp"].is_null() {
            contracts.insert(key.namespace);
        }
    }
    let subjects: Vec<Subject> =
        contracts.iter().map(|contract| rbac::service_account(contract, KUBE_BINDER)).collect();
    let mut body = serde_json::to_value(backend::shared_binding(kind, subjects)).unwrap_or_default();
    body["apiVersion"] = json!(resource.api_version());
    body["kind"] = json!(resource.kind);
    // Apply, because RBAC can tie it to the name on create too; POST it cannot.
    match live {
        None => world.api.apply_create_only(&resource, &key, &body, MANAGER).await?,
        Some(live) if same_subjects(&live["subjects"], &body["subjects"]) => return Ok(()),
        Some(live) => {
            body["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"].clone();
            world.api.apply(&resource, &key, &body, MANAGER, Subresource::Main).await?
        }
    };
    tracing::info!(%kind, consumers = contracts.len(), "rights on a cluster-scoped kind follow its consumers");
    Ok(())
}

/// Whether two lists name the same subjects; nobody may be said in two ways.
fn same_subjects(one: &Value, other: &Value) -> bool {
    let empty = |list: &Value| list.as_array().is_none_or(Vec::is_empty);
    one == other || (empty(one) && empty(other))
}

/// Takes an export's rights back: its Roles in all mapped namespaces and in the contract namespace.
///
/// # Errors
/// Those of the API server.
pub async fn withdraw(world: &World, export: &APIServiceExport) -> Result<(), Trouble> {
    let contract = export.metadata.namespace.as_deref().unwrap_or_default();
    let mut namespaces = vec![contract.to_owned()];
    for key in world.mapped.keys_in(contract) {
        if let Some(entry) = world.mapped.get(&key)
            && let Some(mapped) = entry.summary["status"]["namespace"].as_str()
        {
            namespaces.push(mapped.to_owned());
        }
    }
    for namespace in namespaces {
        withdraw_from(world, &namespace, export.metadata.name.as_deref().unwrap_or_default()).await?;
    }
    for resource in &export.spec.resources {
        let kind = resource.group_resource();
        // The schema goes with the export: without it, it might have been cluster-scoped.
        let scope = world.schemas.get(&ObjectKey::new(contract, &kind.crd_name()));
        let scope = scope.and_then(|entry| serde_json::from_value(entry.summary["spec"]["scope"].clone()).ok());
        let strategy = Strategy::of(scope.unwrap_or(Scope::Cluster), export.spec.isolation);
        if strategy.provider_scope() == Scope::Namespaced {
            continue;
        }
        let there = resources::cluster_role_bindings();
        let key = ObjectKey::cluster(&backend::shared_name(&kind));
        match world.api.get_opt(&there, &key).await {
            Ok(Some(_)) => share(world, &kind).await?,
            // Never granted: we may not even look.
            Ok(None) => {}
            Err(err) if err.is_forbidden() => {}
            Err(err) => return Err(err.into()),
        }
    }
    Ok(())
}

/// Takes an export's rights in one namespace back.
///
/// # Errors
/// Those of the API server.
pub async fn withdraw_from(world: &World, namespace: &str, export: &str) -> Result<(), Trouble> {
    for kind in [resources::role_bindings(), resources::roles()] {
        let key = ObjectKey::new(namespace, &provider::mapped_role_name(export));
        let live = world.api.get_opt(&kind, &key).await?;
        if let Some(uid) = live.as_ref().and_then(|live| live["metadata"]["uid"].as_str()) {
            world.api.delete(&kind, &key, uid).await?;
        }
    }
    Ok(())
}

/// Exported kinds, for the annotation of a namespace.
#[must_use]
pub fn kinds_text(kinds: &[Resource]) -> String {
    let mut names: Vec<String> =
        kinds.iter().map(|kind| format!("{}/{}/{}/{}", kind.group, kind.version, kind.plural, kind.kind)).collect();
    names.sort();
    names.dedup();
    names.join(",")
}

/// What a namespace's annotation is to say: the kinds that it names, and the present ones in their present version.
/// None is taken out: where an export has ended, its objects may have been left.
#[must_use]
pub fn kinds_with(namespace: &Value, annotation: &str, present: &[Resource]) -> String {
    let mut kinds = kinds_in(namespace, annotation);
    kinds.retain(|old| !present.iter().any(|now| (&now.group, &now.plural) == (&old.group, &old.plural)));
    kinds.extend_from_slice(present);
    kinds_text(&kinds)
}

/// The exported kinds that a namespace's annotation names.
#[must_use]
pub fn kinds_in(namespace: &Value, annotation: &str) -> Vec<Resource> {
    let text = namespace["metadata"]["annotations"][annotation].as_str().unwrap_or_default();
    text.split(',')
        .filter_map(|item| {
            let mut parts = item.split('/');
            Some(Resource::new(parts.next()?, parts.next()?, parts.next()?, parts.next()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_are_a_service_account_or_a_user() {
        let account = ourselves("system:serviceaccount:kube-bind:backend");
        assert_eq!((account.kind.as_str(), account.namespace.as_deref()), ("ServiceAccount", Some("kube-bind")));
        assert_eq!(ourselves("admin").kind, "User");
    }

    #[test]
    fn kinds_survive_the_annotation() {
        let kinds = vec![Resource::new("g.io", "v1", "things", "Thing"), Resource::new("a.io", "v2", "as", "A")];
        let namespace = json!({"metadata": {"annotations": {ANNOTATION_KINDS: kinds_text(&kinds)}}});
        let mut back = kinds_in(&namespace, ANNOTATION_KINDS);
        back.reverse();
        assert_eq!(back, kinds);
        assert!(kinds_in(&json!({}), ANNOTATION_KINDS).is_empty());
    }

    #[test]
    fn the_annotation_forgets_no_kind() {
        let kinds = [Resource::new("g.io", "v1", "things", "Thing"), Resource::new("a.io", "v2", "as", "A")];
        let namespace = json!({"metadata": {"annotations": {ANNOTATION_KINDS: kinds_text(&kinds)}}});
        assert_eq!(kinds_with(&namespace, ANNOTATION_KINDS, &[]), kinds_text(&kinds));
        assert_eq!(kinds_with(&namespace, ANNOTATION_KINDS, &kinds), kinds_text(&kinds));
        let now = Resource::new("g.io", "v3", "things", "Thing");
        assert_eq!(kinds_with(&namespace, ANNOTATION_KINDS, &[now]), "a.io/v2/as/A,g.io/v3/things/Thing");
        assert_eq!(kinds_with(&json!({}), ANNOTATION_KINDS, &[]), "");
    }
}
