{{- define "backend.selector" -}}
app.kubernetes.io/name: kube-bind-backend
{{- end -}}

{{- define "backend.labels" -}}
{{ include "backend.selector" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ trimPrefix "v" .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: kube-bind
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "backend.image" -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default .version }}
{{- end -}}
{{- end -}}

{{/* An object that the Rust code generated (files/), with the release's labels, annotations if there are any, and the
release's namespace, and its ServiceAccount as subject. */}}
{{- define "backend.generated" -}}
{{- $object := .root.Files.Get .path | fromYaml -}}
{{- include "backend.release" (merge (dict "object" $object) .) -}}
{{- end -}}

{{- define "backend.release" -}}
{{- $object := .object -}}
{{- $labels := merge (default dict $object.metadata.labels) (include "backend.labels" .root | fromYaml) -}}
{{- $_ := set $object.metadata "labels" $labels -}}
{{- with .annotations -}}
{{- $_ := set $object.metadata "annotations" (merge (default dict $object.metadata.annotations) .) -}}
{{- end -}}
{{- $root := .root -}}
{{- if $object.metadata.namespace -}}
{{- $_ := set $object.metadata "namespace" $root.Release.Namespace -}}
{{- end -}}
{{- range $object.subjects -}}
{{- $_ := set . "name" $root.Values.serviceAccount.name -}}
{{- $_ := set . "namespace" $root.Release.Namespace -}}
{{- end -}}
{{ toYaml $object }}
{{- end -}}

{{/* What has to be said and was not, all at once. */}}
{{- define "backend.missing" -}}
{{- $missing := list -}}
{{- if not .Values.apiServer.url -}}{{- $missing = append $missing "apiServer.url (the API server as consumers reach it)" -}}{{- end -}}
{{- if .Values.frontend.enabled -}}
{{- if not .Values.externalUrl -}}{{- $missing = append $missing "externalUrl (where browsers find the backend)" -}}{{- end -}}
{{- if not .Values.oidc.issuerUrl -}}{{- $missing = append $missing "oidc.issuerUrl" -}}{{- end -}}
{{- if not .Values.oidc.clientId -}}{{- $missing = append $missing "oidc.clientId" -}}{{- end -}}
{{- if not (or .Values.oidc.allowedGroups .Values.oidc.allowedUsers) -}}{{- $missing = append $missing "oidc.allowedGroups or oidc.allowedUsers (who may bind)" -}}{{- end -}}
{{- if not .Values.signingKey.existingSecret -}}{{- $missing = append $missing "signingKey.existingSecret (kubectl create secret generic … --from-literal=signing-key=\"$(openssl rand -base64 32)\")" -}}{{- end -}}
{{- end -}}
{{- join "; " $missing -}}
{{- end -}}

{{- define "backend.host" -}}
{{- (urlParse .Values.externalUrl).hostname -}}
{{- end -}}

{{/* The trust anchors given as text. */}}
{{- define "backend.authorities" -}}
{{- with .Values.apiServer.ca }}
api-server.crt: {{ . | quote }}
{{- end }}
{{- with .Values.oidc.ca }}
issuer.crt: {{ . | quote }}
{{- end }}
{{- end -}}
