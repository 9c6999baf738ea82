{{/* Labels of every object; takes (list . COMPONENT). */}}
{{- define "runner.labels" -}}
{{- $root := index . 0 -}}
{{- with $root.Values.commonLabels }}{{ toYaml . }}
{{ end -}}
app.kubernetes.io/name: runner
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- end -}}

{{/* Labels of the chart's own pods, those of the values beneath; takes (list . COMPONENT). */}}
{{- define "runner.podLabels" -}}
{{- merge (include "runner.labels" . | fromYaml) (index . 0).Values.pods.labels | toYaml -}}
{{- end -}}

{{/* metadata of an object of the namespace: (list . NAME COMPONENT [ANNOTATIONS]). */}}
{{- define "runner.metadata" -}}
{{- $root := index . 0 -}}
{{- $extra := dict -}}
{{- if gt (len .) 3 }}{{ $extra = index . 3 }}{{ end -}}
name: {{ index . 1 }}
namespace: {{ $root.Release.Namespace }}
labels:
  {{- include "runner.labels" (list $root (index . 2)) | nindent 2 }}
{{- with merge (dict) $extra $root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Name of an object of the whole cluster: (list . NAME). Two namespaces may have the chart. */}}
{{- define "runner.clusterName" -}}
{{- printf "runner-%s-%s" (index . 0).Release.Namespace (index . 1) -}}
{{- end -}}

{{/* metadata of an object of the whole cluster: (list . FULLNAME COMPONENT). */}}
{{- define "runner.clusterMetadata" -}}
{{- omit (include "runner.metadata" . | fromYaml) "namespace" | toYaml -}}
{{- end -}}

{{- define "runner.recordClaim" -}}
{{- if not .Values.records.s3 -}}
{{- .Values.records.existingClaim | default .Values.records.claim.name -}}
{{- end -}}
{{- end -}}

{{- define "runner.cacheClaim" -}}
{{- if .Values.cache.enabled -}}
{{- .Values.cache.existingClaim | default .Values.cache.claim.name -}}
{{- end -}}
{{- end -}}

{{- define "runner.caBundle" -}}
{{- if .Values.network.caBundle.pem -}}runner-ca{{- else -}}{{ .Values.network.caBundle.configMap | default "" }}{{- end -}}
{{- end -}}

{{/* Ports of a rule: (list PORTS PROTOCOL…). */}}
{{- define "runner.ports" -}}
{{- $out := list -}}
{{- range $port := index . 0 -}}
{{- if kindIs "map" $port -}}
{{- $out = append $out (merge (dict) $port (dict "protocol" "TCP")) -}}
{{- else -}}
{{- range $protocol := index $ 1 }}{{ $out = append $out (dict "port" $port "protocol" $protocol) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- toYaml $out -}}
{{- end -}}

{{/* Meets Pod Security "restricted". */}}
{{- define "runner.podSecurity" -}}
runAsNonRoot: true
runAsUser: 1000
runAsGroup: 1000
fsGroup: 1000
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "runner.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
readOnlyRootFilesystem: true
{{- end -}}

{{- define "runner.pullSecrets" -}}
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Subjects of a binding: (list . SUBJECTS). */}}
{{- define "runner.subjects" -}}
{{- $root := index . 0 -}}
{{- range index . 1 }}
- kind: {{ .kind }}
  name: {{ .name | quote }}
  {{- if eq .kind "ServiceAccount" }}
  namespace: {{ .namespace | default $root.Release.Namespace }}
  {{- else }}
  apiGroup: rbac.authorization.k8s.io
  {{- end }}
{{- end }}
{{- end -}}

{{- define "runner.kueueVersion" -}}
{{- if .Capabilities.APIVersions.Has "kueue.x-k8s.io/v1beta2" -}}
kueue.x-k8s.io/v1beta2
{{- else -}}
kueue.x-k8s.io/v1beta1
{{- end -}}
{{- end -}}
