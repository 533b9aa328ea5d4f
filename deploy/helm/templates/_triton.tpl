{{/* The pods of a pool: the same for a Deployment and for an InferenceService. */}}

{{- define "audiocraft.triton.pod" -}}
{{- include "audiocraft.pod" . }}
{{ include "audiocraft.spread" . }}
terminationGracePeriodSeconds: {{ .pool.drainSeconds }}
{{- with .pool.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- if .pool.gpus }}
tolerations: {{- toYaml .pool.tolerations | nindent 2 }}
{{- end }}
containers:
  - name: {{ eq .Values.engine "kserve" | ternary "kserve-container" "triton" }}
    {{- include "audiocraft.container" . | nindent 4 }}
    env:
      - {name: LOAD_MODELS, value: {{ .pool.model }}}
      - {name: TRITON_ADMIN_KEY_FILE, value: /secrets/admin-key}  # each pod draws its own; none has its use
      {{- if .pool.weights }}
      - {name: HF_HUB_OFFLINE, value: "1"}
      {{- end }}
      {{- with .pool.hfTokenSecret }}
      - {name: HF_TOKEN, valueFrom: {secretKeyRef: {name: {{ . }}, key: token}}}
      {{- end }}
      {{- if .pool.gpus }}
      - {name: MEMORY_SHARE, value: "0.9"}  # no other model has this GPU
      {{- end }}
      {{- include "audiocraft.settings" (merge (dict "settings" .pool.settings) .) | nindent 6 }}
    ports:
      - {name: grpc, containerPort: 8101}
      - {name: metrics, containerPort: 8102}
    # Triton calls a model ready while it loads; one with slots is.
    startupProbe:
      exec: &ready
        command: [sh, -c, 'curl -sf localhost:8102/metrics | grep -q "^musicgen_slots{.* [1-9]"']
      periodSeconds: 5
      timeoutSeconds: 5
      failureThreshold: {{ div .pool.startSeconds 5 }}
    readinessProbe: {exec: *ready, periodSeconds: 5, timeoutSeconds: 5}
    # The supervisor restarts Triton itself; this is for one that cannot.
    livenessProbe: {grpc: {port: 8101}, timeoutSeconds: 5, failureThreshold: 12}
    lifecycle:
      preStop:  # until no new song comes, and then until the last one has ended
        exec:
          command:
            - sh
            - -c
            - sleep 10; while curl -sf localhost:8102/metrics
              | grep -Eq "^musicgen_(slots_in_use|queued_songs).* [1-9]"; do sleep 1; done
    resources:
      requests: {{- toYaml .pool.resources.requests | nindent 8 }}
      limits: {{- toYaml .pool.resources.limits | nindent 8 }}
        {{- if .pool.gpus }}
        nvidia.com/gpu: {{ .pool.gpus }}
        {{- end }}
    volumeMounts:
      - {name: shm, mountPath: /dev/shm}
      - {name: tmp, mountPath: /tmp}
      - {name: secrets, mountPath: /secrets}
      - {name: cache, mountPath: /cache{{ if .pool.weights }}, readOnly: true{{ end }}}
volumes:
  - {name: shm, emptyDir: {medium: Memory, sizeLimit: 4Gi}}
  - {name: tmp, emptyDir: {medium: Memory}}
  - {name: secrets, emptyDir: {medium: Memory}}
  {{- if .pool.weights.pvc }}
  - {name: cache, persistentVolumeClaim: {claimName: {{ .pool.weights.pvc }}, readOnly: true}}
  {{- else if .pool.weights.image }}
  - {name: cache, image: {reference: {{ .pool.weights.image | quote }}}}
  {{- else }}
  - {name: cache, emptyDir: {}}
  {{- end }}
{{- end }}

{{/* Songs that play or wait, in per cent of the slots of a pod: 70 is the work of 0.7 pods. */}}
{{- define "audiocraft.triton.load" -}}
{{- $of := printf "{job=\"%s/%s\",model=\"%s\"}" .Release.Namespace .Release.Name .pool.model -}}
100 * (sum(musicgen_slots_in_use{{ $of }}) + sum(musicgen_queued_songs{{ $of }})) / max(musicgen_slots{{ $of }} > 0)
{{- end }}
