//! Services: defaults, and an address out of the cluster's range.
//!
//! Nothing routes to the address here; clients and templates expect that there is one.

use std::net::Ipv4Addr;

use apimachinery::field_path::FieldError;
use apimachinery::status::StatusError;
use serde_json::{Value, json};

use super::Admission;
use crate::store::{Scope, TableId};

/// Addresses of a logical cluster's services: 10.96.0.0/16.
const RANGE: u32 = 0x0A60_0000;
const RANGE_SIZE: u32 = 1 << 16;

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn default(object: &mut Value) {
    if object.get("spec").is_none_or(Value::is_null) {
        object["spec"] = json!({});
    }
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    let mut default = |field: &str, value: Value| {
        let slot = spec.entry(field).or_insert(Value::Null);
        if slot.is_null() || slot.as_str() == Some("") {
            *slot = value;
        }
    };
    default("type", "ClusterIP".into());
    default("sessionAffinity", "None".into());
    let kind = spec["type"].as_str().unwrap_or_default().to_owned();
    if kind == "ExternalName" {
        spec.remove("internalTrafficPolicy");
    } else if spec.get("internalTrafficPolicy").is_none_or(Value::is_null) {
        spec.insert("internalTrafficPolicy".into(), "Cluster".into());
    }
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(port) = port.as_object_mut() else {
            continue;
        };
        if port.get("protocol").and_then(Value::as_str).unwrap_or_default().is_empty() {
            port.insert("protocol".into(), "TCP".into());
        }
        let number = port.get("port").cloned().unwrap_or(Value::Null);
        let target = port.entry("targetPort").or_insert(Value::Null);
        if target.is_null() || *target == json!(0) || *target == json!("") {
            *target = number;
        }
    }
}

pub(super) fn mutate(admission: &Admission<'_>, object: &mut Value) -> Result<(), StatusError> {
    let kind = text(object, "/spec/type").to_owned();
    if admission.old.is_none() && !object["status"].is_object() {
        object["status"] = json!({"loadBalancer": {}});
    }
    let old_address = admission.old.map(|old| text(old, "/spec/clusterIP").to_owned()).unwrap_or_default();
    if kind == "ExternalName" {
        if let Some(spec) = object["spec"].as_object_mut() {
            for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                if spec.get(field).is_some_and(|v| *v == json!("") || v.is_null() || field != "clusterIP") {
                    spec.remove(field);
                }
            }
        }
        return Ok(());
    }
    let given = text(object, "/spec/clusterIP").to_owned();
    let address = match (given.as_str(), old_address.as_str()) {
        ("", "") => free_address(admission)?,
        ("", old) => old.to_owned(),
        (given, _) => given.to_owned(),
    };
    object["spec"]["clusterIP"] = address.clone().into();
    object["spec"]["clusterIPs"] = json!([address]);
    let selectorless = object["spec"].get("selector").is_none_or(|s| s.as_object().is_none_or(|m| m.is_empty()));
    if !(address == "None" && selectorless && object["spec"].get("ipFamilies").is_some()) {
        object["spec"]["ipFamilies"] = json!(["IPv4"]);
        object["spec"]["ipFamilyPolicy"] = "SingleStack".into();
    }
    Ok(())
}

/// An address no service of the logical cluster has. Two services made at the same moment may be given the same one;
/// as nothing routes to it, that harms nobody.
fn free_address(admission: &Admission<'_>) -> Result<String, StatusError> {
    let services =
        admission.core.store.list(&TableId::new("", "services"), &Scope::Cluster(admission.target.cluster.clone()));
    let taken: std::collections::HashSet<String> =
        services.objects.iter().map(|s| text(&s.to_value(), "/spec/clusterIP").to_owned()).collect();
    let start: u16 = rand::random();
    // The first addresses are for well-known services (.1 is `kubernetes`, .10 is DNS).
    let candidates =
        (0..RANGE_SIZE).map(|n| (u32::from(start) + n) % RANGE_SIZE).filter(|n| *n > 255 && *n < RANGE_SIZE - 1);
    for offset in candidates {
        let address = Ipv4Addr::from(RANGE + offset).to_string();
        if !taken.contains(&address) {
            return Ok(address);
        }
    }
    Err(StatusError::internal("failed to allocate a serviceIP: range is full"))
}

pub(super) fn validate(admission: &Admission<'_>, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let kind = text(object, "/spec/type");
    let address = text(object, "/spec/clusterIP");
    let ports = object.pointer("/spec/ports").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    match kind {
        "ClusterIP" | "NodePort" | "LoadBalancer" => {
            if ports.is_empty() && address != "None" {
                errors.push(FieldError::required("spec.ports", ""));
            }
        }
        "ExternalName" => {
            let name = text(object, "/spec/externalName");
            if name.is_empty() {
                errors.push(FieldError::required("spec.externalName", ""));
            } else {
                let found = apimachinery::names::dns1123_subdomain(name.trim_end_matches('.'));
                errors.extend(found.into_iter().map(|e| FieldError::invalid("spec.externalName", name, e)));
            }
            if !address.is_empty() {
                errors.push(FieldError::forbidden("spec.clusterIPs", "may not be set for ExternalName services"));
            }
        }
        other => {
            let supported = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
            errors.push(FieldError::not_supported("spec.type", other, &supported));
        }
    }
    for (at, port) in ports.iter().enumerate() {
        let path = format!("spec.ports[{at}]");
        let number = port.get("port").and_then(Value::as_i64).unwrap_or(0);
        if !(1..=65535).contains(&number) {
            let detail = "must be between 1 and 65535, inclusive";
            errors.push(FieldError::invalid(format!("{path}.port"), number, detail));
        }
        let protocol = text(port, "/protocol");
        if !matches!(protocol, "TCP" | "UDP" | "SCTP") {
            errors.push(FieldError::not_supported(format!("{path}.protocol"), protocol, &["SCTP", "TCP", "UDP"]));
        }
        let name = text(port, "/name");
        if name.is_empty() && ports.len() > 1 {
            errors.push(FieldError::required(format!("{path}.name"), ""));
        }
        if !name.is_empty() {
            let found = apimachinery::names::dns1123_label(name);
            errors.extend(found.into_iter().map(|e| FieldError::invalid(format!("{path}.name"), name, e)));
            if ports[..at].iter().any(|p| text(p, "/name") == name) {
                errors.push(FieldError::duplicate(format!("{path}.name"), name));
            }
        }
    }
    if let Some(old) = admission.old {
        let was = text(old, "/spec/clusterIP");
        let both = kind != "ExternalName" && text(old, "/spec/type") != "ExternalName";
        if both && !was.is_empty() && was != address {
            errors.push(FieldError::invalid("spec.clusterIPs[0]", address, "may not change once set"));
        }
    }
    errors
}
