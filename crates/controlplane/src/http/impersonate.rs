//! Acting as somebody else (`kubectl --as`).
//!
//! Flows in: the authenticated user and the `Impersonate-*` headers. Flows out: the user to act as, if the authenticated
//! one has the verb `impersonate` on each user, group, UID and extra that is asked for. A credential of one logical
//! cluster stays in it.

use std::collections::BTreeMap;

use apimachinery::status::StatusError;
use http::HeaderMap;

use crate::auth::{ANONYMOUS, AUTHENTICATED, SERVICE_ACCOUNT_PREFIX, UNAUTHENTICATED};
use crate::core::Core;
use crate::request::{Attributes, UserInfo};

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";

/// The user a request acts as.
pub(super) fn effective(
    core: &Core,
    cluster: &str,
    user: UserInfo,
    headers: &HeaderMap,
) -> Result<UserInfo, StatusError> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let name = text(USER);
    let groups: Vec<String> =
        headers.get_all(GROUP).iter().filter_map(|v| v.to_str().ok()).map(str::to_owned).collect();
    let uid = text(UID);
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (header, value) in headers {
        if let (Some(key), Ok(value)) = (header.as_str().strip_prefix(EXTRA), value.to_str()) {
            let key =
                url::form_urlencoded::parse(key.as_bytes()).next().map_or_else(String::new, |(k, _)| k.into_owned());
            extra.entry(key).or_default().push(value.to_owned());
        }
    }
    if name.is_empty() {
        return match groups.is_empty() && uid.is_empty() && extra.is_empty() {
            true => Ok(user),
            false => Err(StatusError::bad_request("requested impersonation without a user (header Impersonate-User)")),
        };
    }

    let require = |group: &str, resource: &str, subresource: &str, namespace: &str, name: &str| {
        let attributes = Attributes {
            cluster: cluster.to_owned(),
            verb: "impersonate".to_owned(),
            group: group.to_owned(),
            version: "v1".to_owned(),
            resource: resource.to_owned(),
            subresource: subresource.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            ..Attributes::default()
        };
        core.auth.require(core, &user, &attributes)
    };
    let mut all_groups = groups.clone();
    match name.strip_prefix(SERVICE_ACCOUNT_PREFIX).and_then(|rest| rest.split_once(':')) {
        Some((namespace, account)) => {
            require("", "serviceaccounts", "", namespace, account)?;
            if groups.is_empty() {
                all_groups.extend(["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")]);
            }
        }
        None => require("", "users", "", "", &name)?,
    }
    for group in &groups {
        require("", "groups", "", "", group)?;
    }
    if !uid.is_empty() {
        require("authentication.k8s.io", "uids", "", "", &uid)?;
    }
    for (key, values) in &extra {
        for value in values {
            require("authentication.k8s.io", "userextras", key, "", value)?;
        }
    }
    let everyone = if name == ANONYMOUS { UNAUTHENTICATED } else { AUTHENTICATED };
    if !all_groups.iter().any(|group| group == everyone) {
        all_groups.push(everyone.to_owned());
    }
    Ok(UserInfo { username: name, uid, groups: all_groups, extra, cluster: Some(cluster.to_owned()) })
}
