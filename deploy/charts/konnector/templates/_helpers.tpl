{{/* What tells the agent's pods. Not more: a Deployment that `kubectl bind` made has the same selector, which cannot be
changed, and can so be taken over. */}}
{{- define "konnector.selector" -}}
app.kubernetes.io/name: konnector
{{- end -}}

{{- define "konnector.labels" -}}
{{ include "konnector.selector" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ trimPrefix "v" .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: kube-bind
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "konnector.image" -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default .version }}
{{- end -}}
{{- end -}}

{{/* An object that the Rust code generated (files/), with the release's labels, and annotations if there are any. */}}
{{- define "konnector.generated" -}}
{{- $object := .root.Files.Get .path | fromYaml -}}
{{- $labels := merge (default dict $object.metadata.labels) (include "konnector.labels" .root | fromYaml) -}}
{{- $_ := set $object.metadata "labels" $labels -}}
{{- with .annotations -}}
{{- $_ := set $object.metadata "annotations" (merge (default dict $object.metadata.annotations) .) -}}
{{- end -}}
{{ toYaml $object }}
{{- end -}}

{{- define "konnector.policies" -}}
{{- $kind := "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy" -}}
{{- $install := .Values.admissionPolicies.install -}}
{{- if or (eq $install "always") (and (eq $install "auto") (.Capabilities.APIVersions.Has $kind)) -}}yes{{- end -}}
{{- end -}}
