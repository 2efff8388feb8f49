{{- define "berth.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 53 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 53 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "berth.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "berth.labels" -}}
{{ include "berth.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "berth.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "berth.name" .) "default" .Values.serviceAccount.create) }}
{{- end }}

{{- define "berth.image" -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}{{ else }}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "berth.env" -}}
{{- range $i, $s := .Values.secrets }}
- name: {{ $s.variable }}
  value: /etc/berth-secrets/{{ $i }}/{{ $s.key }}
{{- end }}
{{- with .Values.env }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "berth.mounts" -}}
- {name: config, mountPath: /etc/berth, readOnly: true}
{{- range $i, $s := .Values.secrets }}
- {name: secret-{{ $i }}, mountPath: /etc/berth-secrets/{{ $i }}, readOnly: true}
{{- end }}
{{- end }}

{{- define "berth.volumes" -}}
- name: config
  configMap: {name: {{ include "berth.name" . }}}
{{- range $i, $s := .Values.secrets }}
- name: secret-{{ $i }}
  secret:
    secretName: {{ $s.secret }}
    defaultMode: 0440
    items: [{key: {{ $s.key }}, path: {{ $s.key }}}]
{{- end }}
{{- end }}

{{- define "berth.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "berth.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "berth.config" -}}
{{- $config := deepCopy .Values.config }}
{{- if .Values.metrics.enabled }}
{{- $_ := set $config "admin" (dict "listen" (printf "0.0.0.0:%d" (int .Values.metrics.port))) }}
{{- end }}
{{- toYaml $config }}
{{- end }}

{{- define "berth.port" -}}
{{- $listen := .Values.config.listen }}
{{- if kindIs "map" $listen }}{{ $listen = $listen.address }}{{ end }}
{{- required "config.listen: want an address on all interfaces, such as 0.0.0.0:5000" $listen | splitList ":" | last }}
{{- end }}
