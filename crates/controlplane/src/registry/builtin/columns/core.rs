//! Cells of the core group's kinds (and of storage classes and endpoint slices).

use apimachinery::duration;
use apimachinery::table::Column;
use serde_json::Value;

use super::{
    NONE, UNSET, age_of, at, containers, flag, items, joined, labels, number, size, string, text, text_or, wide,
};

pub(in super::super) fn namespaces() -> Vec<Column> {
    vec![string("Status", |o, _| text(o, "/status/phase").into()), Column::age()]
}

pub(in super::super) fn config_maps() -> Vec<Column> {
    vec![string("Data", |o, _| (size(o, "/data") + size(o, "/binaryData")).into()), Column::age()]
}

pub(in super::super) fn secrets() -> Vec<Column> {
    vec![string("Type", |o, _| text(o, "/type").into()), string("Data", |o, _| size(o, "/data").into()), Column::age()]
}

pub(in super::super) fn service_accounts() -> Vec<Column> {
    vec![string("Secrets", |o, _| size(o, "/secrets").into()), Column::age()]
}

pub(in super::super) fn services() -> Vec<Column> {
    vec![
        string("Type", |o, _| text(o, "/spec/type").into()),
        string("Cluster-IP", |o, _| text_or(o, "/spec/clusterIP", NONE)),
        string("External-IP", |o, _| external_ip(o)),
        string("Port(s)", |o, _| service_ports(o)),
        Column::age(),
        wide("Selector", |o, _| labels(o, "/spec/selector")),
    ]
}

fn external_ip(service: &Value) -> Value {
    let mut addresses: Vec<&str> = items(service, "/spec/externalIPs").iter().filter_map(Value::as_str).collect();
    match text(service, "/spec/type") {
        "ExternalName" => text(service, "/spec/externalName").into(),
        "LoadBalancer" => {
            let ingress = items(service, "/status/loadBalancer/ingress");
            let mut given: Vec<&str> = ingress
                .iter()
                .map(|i| if text(i, "/ip").is_empty() { text(i, "/hostname") } else { text(i, "/ip") })
                .collect();
            given.append(&mut addresses);
            if given.is_empty() { "<pending>".into() } else { joined(&given) }
        }
        _ => joined(&addresses),
    }
}

fn service_ports(service: &Value) -> Value {
    let ports: Vec<String> = items(service, "/spec/ports")
        .iter()
        .map(|port| match number(port, "/nodePort") {
            0 => format!("{}/{}", number(port, "/port"), text(port, "/protocol")),
            node => format!("{}:{node}/{}", number(port, "/port"), text(port, "/protocol")),
        })
        .collect();
    joined(&ports)
}

/// At most three are shown, the rest is counted.
fn some_of(all: &[String]) -> Value {
    match all {
        [] => NONE.into(),
        [a, b, c, rest @ ..] if !rest.is_empty() => format!("{a},{b},{c} + {} more...", rest.len()).into(),
        few => few.join(",").into(),
    }
}

pub(in super::super) fn endpoints() -> Vec<Column> {
    vec![
        string("Endpoints", |o, _| {
            let mut all = Vec::new();
            for subset in items(o, "/subsets") {
                for address in items(subset, "/addresses") {
                    let ports = items(subset, "/ports");
                    if ports.is_empty() {
                        all.push(text(address, "/ip").to_owned());
                    }
                    all.extend(ports.iter().map(|p| format!("{}:{}", text(address, "/ip"), number(p, "/port"))));
                }
            }
            some_of(&all)
        }),
        Column::age(),
    ]
}

pub(in super::super) fn endpoint_slices() -> Vec<Column> {
    vec![
        string("AddressType", |o, _| text(o, "/addressType").into()),
        string("Ports", |o, _| {
            let ports = items(o, "/ports");
            if ports.is_empty() {
                return UNSET.into();
            }
            some_of(&ports.iter().map(|p| at(p, "/port").map_or("*".to_owned(), Value::to_string)).collect::<Vec<_>>())
        }),
        string("Endpoints", |o, _| {
            let endpoints = items(o, "/endpoints");
            if endpoints.is_empty() {
                return UNSET.into();
            }
            let addresses = endpoints.iter().flat_map(|e| items(e, "/addresses"));
            some_of(&addresses.filter_map(|a| a.as_str().map(str::to_owned)).collect::<Vec<_>>())
        }),
        Column::age(),
    ]
}

pub(in super::super) fn nodes() -> Vec<Column> {
    vec![
        string("Status", |o, _| {
            let ready = items(o, "/status/conditions").iter().find(|c| text(c, "/type") == "Ready");
            let mut status = match ready.map(|c| text(c, "/status")) {
                Some("True") => "Ready".to_owned(),
                Some(_) => "NotReady".to_owned(),
                None => "Unknown".to_owned(),
            };
            if flag(o, "/spec/unschedulable") {
                status.push_str(",SchedulingDisabled");
            }
            status.into()
        }),
        string("Roles", |o, _| {
            let labels = at(o, "/metadata/labels").and_then(Value::as_object);
            let roles: Vec<&str> = labels
                .into_iter()
                .flatten()
                .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
                    Some(role) if !role.is_empty() => Some(role),
                    None if key == "kubernetes.io/role" => value.as_str(),
                    _ => None,
                })
                .collect();
            joined(&roles)
        }),
        Column::age(),
        string("Version", |o, _| text(o, "/status/nodeInfo/kubeletVersion").into()),
        wide("Internal-IP", |o, _| node_address(o, "InternalIP")),
        wide("External-IP", |o, _| node_address(o, "ExternalIP")),
        wide("OS-Image", |o, _| text_or(o, "/status/nodeInfo/osImage", "<unknown>")),
        wide("Kernel-Version", |o, _| text_or(o, "/status/nodeInfo/kernelVersion", "<unknown>")),
        wide("Container-Runtime", |o, _| text_or(o, "/status/nodeInfo/containerRuntimeVersion", "<unknown>")),
    ]
}

fn node_address(node: &Value, kind: &str) -> Value {
    let address = items(node, "/status/addresses").iter().find(|a| text(a, "/type") == kind);
    address.map_or(NONE.into(), |a| text(a, "/address").into())
}

pub(in super::super) fn events() -> Vec<Column> {
    vec![
        string("Last Seen", |o, now| {
            let series = at(o, "/series/lastObservedTime").and_then(Value::as_str);
            let last = at(o, "/lastTimestamp").or_else(|| at(o, "/deprecatedLastTimestamp")).and_then(Value::as_str);
            duration::age(series.or(last).or_else(|| first_seen(o)), now).into()
        }),
        string("Type", |o, _| text(o, "/type").into()),
        string("Reason", |o, _| text(o, "/reason").into()),
        string("Object", |o, _| {
            let target = at(o, "/involvedObject").or_else(|| at(o, "/regarding")).unwrap_or(&Value::Null);
            let kind = text(target, "/kind").to_lowercase();
            match text(target, "/name") {
                "" => kind.into(),
                name => format!("{kind}/{name}").into(),
            }
        }),
        wide("Subobject", |o, _| {
            at(o, "/involvedObject/fieldPath").or_else(|| at(o, "/regarding/fieldPath")).cloned().unwrap_or("".into())
        }),
        wide("Source", |o, _| {
            let source = at(o, "/source").or_else(|| at(o, "/deprecatedSource")).unwrap_or(&Value::Null);
            let parts = [text(source, "/component"), text(source, "/host")];
            let parts: Vec<&str> = parts.into_iter().filter(|p| !p.is_empty()).collect();
            if parts.is_empty() {
                return text_or(o, "/reportingComponent", text(o, "/reportingController"));
            }
            parts.join(", ").into()
        }),
        string("Message", |o, _| {
            let message = at(o, "/message").or_else(|| at(o, "/note")).and_then(Value::as_str);
            message.unwrap_or_default().trim().into()
        }),
        wide("First Seen", |o, now| duration::age(first_seen(o), now).into()),
        wide("Count", |o, _| {
            let count = number(o, "/series/count").max(number(o, "/count")).max(number(o, "/deprecatedCount"));
            count.max(1).into()
        }),
        Column { priority: 1, ..Column::name() },
    ]
}

fn first_seen(event: &Value) -> Option<&str> {
    at(event, "/firstTimestamp")
        .or_else(|| at(event, "/deprecatedFirstTimestamp"))
        .or_else(|| at(event, "/eventTime"))
        .and_then(Value::as_str)
}

/// `RWO,ROX`, as people abbreviate access modes.
fn access_modes(object: &Value, pointer: &str) -> Value {
    let short = |mode: &Value| match mode.as_str().unwrap_or_default() {
        "ReadWriteOnce" => "RWO",
        "ReadOnlyMany" => "ROX",
        "ReadWriteMany" => "RWX",
        "ReadWriteOncePod" => "RWOP",
        _ => "",
    };
    let modes: Vec<&str> = items(object, pointer).iter().map(short).filter(|m| !m.is_empty()).collect();
    modes.join(",").into()
}

fn deleting_or(object: &Value, phase: &str) -> Value {
    if at(object, "/metadata/deletionTimestamp").is_some() { "Terminating".into() } else { text(object, phase).into() }
}

pub(in super::super) fn persistent_volumes() -> Vec<Column> {
    vec![
        string("Capacity", |o, _| text(o, "/spec/capacity/storage").into()),
        string("Access Modes", |o, _| access_modes(o, "/spec/accessModes")),
        string("Reclaim Policy", |o, _| text(o, "/spec/persistentVolumeReclaimPolicy").into()),
        string("Status", |o, _| deleting_or(o, "/status/phase")),
        string("Claim", |o, _| match at(o, "/spec/claimRef") {
            Some(claim) => format!("{}/{}", text(claim, "/namespace"), text(claim, "/name")).into(),
            None => "".into(),
        }),
        string("StorageClass", |o, _| text(o, "/spec/storageClassName").into()),
        string("VolumeAttributesClass", |o, _| text_or(o, "/spec/volumeAttributesClassName", UNSET)),
        string("Reason", |o, _| text(o, "/status/reason").into()),
        Column::age(),
        wide("VolumeMode", |o, _| text_or(o, "/spec/volumeMode", UNSET)),
    ]
}

pub(in super::super) fn persistent_volume_claims() -> Vec<Column> {
    vec![
        string("Status", |o, _| deleting_or(o, "/status/phase")),
        string("Volume", |o, _| text(o, "/spec/volumeName").into()),
        string("Capacity", |o, _| text(o, "/status/capacity/storage").into()),
        string("Access Modes", |o, _| access_modes(o, "/status/accessModes")),
        string("StorageClass", |o, _| text(o, "/spec/storageClassName").into()),
        string("VolumeAttributesClass", |o, _| text_or(o, "/spec/volumeAttributesClassName", UNSET)),
        Column::age(),
        wide("VolumeMode", |o, _| text_or(o, "/spec/volumeMode", UNSET)),
    ]
}

pub(in super::super) fn pod_templates() -> Vec<Column> {
    vec![
        string("Containers", |o, _| containers(o, "/template/spec/containers", "/name")),
        string("Images", |o, _| containers(o, "/template/spec/containers", "/image")),
        string("Pod Labels", |o, _| labels(o, "/template/metadata/labels")),
    ]
}

pub(in super::super) fn resource_quotas() -> Vec<Column> {
    vec![
        string("Request", |o, _| quota(o, |name| !name.starts_with("limits."))),
        string("Limit", |o, _| quota(o, |name| name.starts_with("limits."))),
        string("Age", |o, now| age_of(o, "/metadata/creationTimestamp", now).into()),
    ]
}

fn quota(object: &Value, wanted: fn(&str) -> bool) -> Value {
    let hard = at(object, "/status/hard").and_then(Value::as_object);
    let used = |name: &str| object.pointer("/status/used").and_then(|u| u.get(name)).and_then(Value::as_str);
    let parts: Vec<String> = hard
        .into_iter()
        .flatten()
        .filter(|(name, _)| wanted(name))
        .map(|(name, limit)| format!("{name}: {}/{}", used(name).unwrap_or("0"), limit.as_str().unwrap_or_default()))
        .collect();
    parts.join(", ").into()
}

pub(in super::super) fn storage_classes() -> Vec<Column> {
    vec![
        string("Provisioner", |o, _| text(o, "/provisioner").into()),
        string("ReclaimPolicy", |o, _| text_or(o, "/reclaimPolicy", "Delete")),
        string("VolumeBindingMode", |o, _| text_or(o, "/volumeBindingMode", "Immediate")),
        string("AllowVolumeExpansion", |o, _| flag(o, "/allowVolumeExpansion").into()),
        Column::age(),
    ]
}
