{{/* A context is the chart's, with `component` (gateway or triton) and, for Triton, `pool`. */}}

{{- define "audiocraft.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- with .pool }}
pool: {{ .model }}
{{- end }}
{{- end }}

{{- define "audiocraft.labels" -}}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{ include "audiocraft.selector" . }}
{{- end }}

{{/* What stands above the containers of every pod. */}}
{{- define "audiocraft.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false  # else a Service named triton sets TRITON_PORT
securityContext:
  runAsNonRoot: true
  runAsUser: 1000
  runAsGroup: 1000
  fsGroup: 1000
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "audiocraft.spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "audiocraft.selector" . | nindent 8 }}
{{- end }}

{{/* What stands in every container. */}}
{{- define "audiocraft.container" -}}
image: {{ .Values.image.repository }}-{{ .image }}:{{ .Values.image.tag | default .Chart.AppVersion }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* A number in JSON: as text, a million is 1e+06. */}}
{{- define "audiocraft.settings" -}}
{{- range $variable, $value := .settings }}
- {name: {{ $variable }}, value: {{ kindIs "string" $value | ternary $value (toJson $value) | quote }}}
{{- end }}
{{- with .Values.tracing }}
- {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ . | quote }}}
{{- end }}
{{- end }}

{{/* What a pod may reach besides its own: names, and the collector of traces. */}}
{{- define "audiocraft.egress" -}}
- ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
{{- with .Values.tracing }}
- ports: [{port: {{ regexFind "[0-9]+$" . }}}]
{{- end }}
{{- end }}

{{- define "audiocraft.disruption" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ .name }}
  labels: {{- include "audiocraft.labels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  unhealthyPodEvictionPolicy: AlwaysAllow  # a pod that never becomes ready holds no node
  selector:
    matchLabels: {{- include "audiocraft.selector" . | nindent 6 }}
{{- end }}
