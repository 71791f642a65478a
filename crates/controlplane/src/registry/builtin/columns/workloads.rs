//! Cells of pods and of what makes pods. Nothing here runs them; they are shown as another cluster's tools left them.

use apimachinery::duration;
use apimachinery::table::Column;
use jiff::Timestamp;
use serde_json::Value;

use super::{
    NONE, UNSET, age_of, at, containers, flag, integer, items, joined, labels, number, selector, string, text, text_or,
    wide,
};

const TEMPLATE: &str = "/spec/template/spec/containers";

fn template_columns() -> Vec<Column> {
    vec![
        wide("Containers", |o, _| containers(o, TEMPLATE, "/name")),
        wide("Images", |o, _| containers(o, TEMPLATE, "/image")),
    ]
}

fn with_template(mut columns: Vec<Column>, more: Option<Column>) -> Vec<Column> {
    columns.extend(template_columns());
    columns.extend(more);
    columns
}

fn selector_column() -> Column {
    wide("Selector", |o, _| selector(o, "/spec/selector"))
}

pub(in super::super) fn pods() -> Vec<Column> {
    vec![
        string("Ready", |o, _| {
            let ready = items(o, "/status/containerStatuses").iter().filter(|c| flag(c, "/ready")).count();
            format!("{ready}/{}", items(o, "/spec/containers").len()).into()
        }),
        string("Status", |o, _| pod_status(o).into()),
        string("Restarts", restarts),
        Column::age(),
        wide("IP", |o, _| text_or(o, "/status/podIP", NONE)),
        wide("Node", |o, _| text_or(o, "/spec/nodeName", NONE)),
        wide("Nominated Node", |o, _| text_or(o, "/status/nominatedNodeName", NONE)),
        wide("Readiness Gates", |o, _| {
            let gates = items(o, "/spec/readinessGates");
            if gates.is_empty() {
                return NONE.into();
            }
            let holds = |gate: &&Value| {
                let mut conditions = items(o, "/status/conditions").iter();
                conditions.any(|c| text(c, "/type") == text(gate, "/conditionType") && text(c, "/status") == "True")
            };
            format!("{}/{}", gates.iter().filter(holds).count(), gates.len()).into()
        }),
    ]
}

/// The one word that tells what is going on with a pod.
fn pod_status(pod: &Value) -> String {
    let mut word = text(pod, "/status/phase").to_owned();
    if !text(pod, "/status/reason").is_empty() {
        word = text(pod, "/status/reason").to_owned();
    }
    let gated = items(pod, "/status/conditions")
        .iter()
        .any(|c| text(c, "/type") == "PodScheduled" && text(c, "/reason") == "SchedulingGated");
    if gated {
        word = "SchedulingGated".to_owned();
    }
    let init = items(pod, "/status/initContainerStatuses");
    let pending = init.iter().position(|c| at(c, "/state/terminated").is_none_or(|t| number(t, "/exitCode") != 0));
    if let Some(index) = pending.filter(|_| text(pod, "/status/phase") == "Pending") {
        word = format!("Init:{}", container_word(&init[index]).unwrap_or_else(|| format!("{index}/{}", init.len())));
    } else {
        for container in items(pod, "/status/containerStatuses").iter().rev() {
            if let Some(state) = container_word(container) {
                word = state;
            }
        }
    }
    if at(pod, "/metadata/deletionTimestamp").is_some() {
        let lost = text(pod, "/status/reason") == "NodeLost";
        return if lost { "Unknown" } else { "Terminating" }.to_owned();
    }
    word
}

fn container_word(container: &Value) -> Option<String> {
    let waiting = text(container, "/state/waiting/reason");
    if !waiting.is_empty() && waiting != "PodInitializing" {
        return Some(waiting.to_owned());
    }
    let terminated = at(container, "/state/terminated")?;
    Some(match (text(terminated, "/reason"), number(terminated, "/signal")) {
        ("", 0) => format!("ExitCode:{}", number(terminated, "/exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    })
}

fn restarts(pod: &Value, now: Timestamp) -> Value {
    let statuses = items(pod, "/status/containerStatuses");
    let count: i64 = statuses.iter().map(|c| number(c, "/restartCount")).sum();
    let last = statuses.iter().map(|c| text(c, "/lastState/terminated/finishedAt")).max().unwrap_or_default();
    if count == 0 || last.is_empty() {
        return count.to_string().into();
    }
    format!("{count} ({} ago)", duration::age(Some(last), now)).into()
}

pub(in super::super) fn replica_controllers() -> Vec<Column> {
    let columns = vec![
        integer("Desired", |o, _| number(o, "/spec/replicas").into()),
        integer("Current", |o, _| number(o, "/status/replicas").into()),
        integer("Ready", |o, _| number(o, "/status/readyReplicas").into()),
        Column::age(),
    ];
    let selected = wide("Selector", |o, _| {
        // replication controllers select by a plain map
        let plain =
            o.pointer("/spec/selector/matchLabels").is_none() && o.pointer("/spec/selector/matchExpressions").is_none();
        if plain { labels(o, "/spec/selector") } else { selector(o, "/spec/selector") }
    });
    with_template(columns, Some(selected))
}

pub(in super::super) fn deployments() -> Vec<Column> {
    let columns = vec![
        string("Ready", |o, _| {
            format!("{}/{}", number(o, "/status/readyReplicas"), number(o, "/spec/replicas")).into()
        }),
        string("Up-to-date", |o, _| number(o, "/status/updatedReplicas").into()),
        string("Available", |o, _| number(o, "/status/availableReplicas").into()),
        Column::age(),
    ];
    with_template(columns, Some(selector_column()))
}

pub(in super::super) fn stateful_sets() -> Vec<Column> {
    let ready = string("Ready", |o, _| {
        format!("{}/{}", number(o, "/status/readyReplicas"), number(o, "/spec/replicas")).into()
    });
    with_template(vec![ready, Column::age()], None)
}

pub(in super::super) fn daemon_sets() -> Vec<Column> {
    let columns = vec![
        integer("Desired", |o, _| number(o, "/status/desiredNumberScheduled").into()),
        integer("Current", |o, _| number(o, "/status/currentNumberScheduled").into()),
        integer("Ready", |o, _| number(o, "/status/numberReady").into()),
        integer("Up-to-date", |o, _| number(o, "/status/updatedNumberScheduled").into()),
        integer("Available", |o, _| number(o, "/status/numberAvailable").into()),
        string("Node Selector", |o, _| labels(o, "/spec/template/spec/nodeSelector")),
        Column::age(),
    ];
    with_template(columns, Some(selector_column()))
}

pub(in super::super) fn jobs() -> Vec<Column> {
    let columns = vec![
        string("Status", |o, _| {
            let holds = |kind: &str| {
                let mut conditions = items(o, "/status/conditions").iter();
                conditions.any(|c| text(c, "/type") == kind && text(c, "/status") == "True")
            };
            let word = match () {
                () if holds("Complete") => "Complete",
                () if holds("Failed") => "Failed",
                () if at(o, "/metadata/deletionTimestamp").is_some() => "Terminating",
                () if holds("Suspended") => "Suspended",
                () if holds("FailureTarget") => "FailureTarget",
                () if holds("SuccessCriteriaMet") => "SuccessCriteriaMet",
                () => "Running",
            };
            word.into()
        }),
        string("Completions", |o, _| {
            let done = number(o, "/status/succeeded");
            match (at(o, "/spec/completions").and_then(Value::as_i64), number(o, "/spec/parallelism")) {
                (Some(wanted), _) => format!("{done}/{wanted}").into(),
                (None, parallel) if parallel > 1 => format!("{done}/1 of {parallel}").into(),
                (None, _) => format!("{done}/1").into(),
            }
        }),
        string("Duration", |o, now| {
            let start = text(o, "/status/startTime").parse::<Timestamp>();
            let end = text(o, "/status/completionTime").parse::<Timestamp>();
            start.map_or("".into(), |start| duration::human(end.unwrap_or(now).as_second() - start.as_second()).into())
        }),
        Column::age(),
    ];
    with_template(columns, Some(selector_column()))
}

pub(in super::super) fn cron_jobs() -> Vec<Column> {
    const CONTAINERS: &str = "/spec/jobTemplate/spec/template/spec/containers";
    vec![
        string("Schedule", |o, _| text(o, "/spec/schedule").into()),
        string("Timezone", |o, _| text_or(o, "/spec/timeZone", NONE)),
        string("Suspend", |o, _| if flag(o, "/spec/suspend") { "True" } else { "False" }.into()),
        integer("Active", |o, _| items(o, "/status/active").len().into()),
        string("Last Schedule", |o, now| match at(o, "/status/lastScheduleTime") {
            Some(_) => age_of(o, "/status/lastScheduleTime", now).into(),
            None => NONE.into(),
        }),
        Column::age(),
        wide("Containers", |o, _| containers(o, CONTAINERS, "/name")),
        wide("Images", |o, _| containers(o, CONTAINERS, "/image")),
        wide("Selector", |o, _| selector(o, "/spec/jobTemplate/spec/selector")),
    ]
}

pub(in super::super) fn autoscalers() -> Vec<Column> {
    vec![
        string("Reference", |o, _| {
            let target = "/spec/scaleTargetRef";
            format!("{}/{}", text(o, &format!("{target}/kind")), text(o, &format!("{target}/name"))).into()
        }),
        string("Targets", |o, _| targets(o)),
        string("MinPods", |o, _| match at(o, "/spec/minReplicas") {
            Some(count) => count.to_string().into(),
            None => UNSET.into(),
        }),
        string("MaxPods", |o, _| number(o, "/spec/maxReplicas").into()),
        string("Replicas", |o, _| number(o, "/status/currentReplicas").into()),
        Column::age(),
    ]
}

/// What is measured against what is wanted, for each resource metric.
fn targets(autoscaler: &Value) -> Value {
    let current = |name: &str| {
        let mut metrics = items(autoscaler, "/status/currentMetrics").iter();
        let metric = metrics.find(|m| text(m, "/resource/name") == name)?;
        at(metric, "/resource/current/averageUtilization").and_then(Value::as_i64)
    };
    let texts: Vec<String> = items(autoscaler, "/spec/metrics")
        .iter()
        .map(|metric| {
            let name = text(metric, "/resource/name");
            let now = current(name).map_or("<unknown>".to_owned(), |c| format!("{c}%"));
            match at(metric, "/resource/target/averageUtilization") {
                Some(wanted) => format!("{name}: {now}/{wanted}%"),
                None if !name.is_empty() => format!("{name}: {now}/{}", text(metric, "/resource/target/averageValue")),
                None => format!("{} metric", text(metric, "/type")),
            }
        })
        .collect();
    joined(&texts)
}
