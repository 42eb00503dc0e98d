{{- define "lakebed.labels" -}}
app.kubernetes.io/name: lakebed
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .role }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "lakebed.selector" -}}
app.kubernetes.io/name: lakebed
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .role }}
{{- end }}

{{- define "lakebed.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "lakebed.bucket" -}}
{{ required "objectStore.bucket: name the bucket that keeps the data" .Values.objectStore.bucket }}
{{- end }}

{{/* An inline TOML table, as --remote-storage and pageserver.toml take it. */}}
{{- define "lakebed.store" -}}
{ bucket_name='{{ include "lakebed.bucket" .root }}', bucket_region='{{ .root.Values.objectStore.region }}', prefix_in_bucket='/{{ .role }}/'
{{- with .root.Values.objectStore.endpoint }}, endpoint='{{ . }}'{{ end }} }
{{- end }}

{{- define "lakebed.brokerUrl" -}}
http://{{ .Release.Name }}-broker:50051
{{- end }}

{{/* What all pods share: who they run as, where they may land. */}}
{{- define "lakebed.pod" -}}
serviceAccountName: {{ .Release.Name }}
automountServiceAccountToken: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 1000
  runAsGroup: 1000
  fsGroup: 1000
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "lakebed.container" -}}
image: {{ include "lakebed.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* One pod of a role to a node, where there are nodes enough. */}}
{{- define "lakebed.spread" -}}
affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels: {{- include "lakebed.selector" . | nindent 14 }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "lakebed.selector" . | nindent 8 }}
{{- end }}

{{- define "lakebed.env" -}}
- name: HOME
  value: /tmp
{{- with .Values.encryption.defaultKey }}
- name: LAKEBED_DEFAULT_KEY
  value: {{ . | quote }}
{{- end }}
{{- with .Values.tracesEndpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- with .Values.objectStore.existingSecret }}
- name: AWS_ACCESS_KEY_ID
  valueFrom: {secretKeyRef: {name: {{ . }}, key: AWS_ACCESS_KEY_ID}}
- name: AWS_SECRET_ACCESS_KEY
  valueFrom: {secretKeyRef: {name: {{ . }}, key: AWS_SECRET_ACCESS_KEY}}
{{- end }}
{{- end }}

{{/* Secrets are mounted, not copied into the environment, where they can be: a rotated one is seen without a restart. */}}
{{- define "lakebed.mounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if .Values.auth.existingSecret }}
- {name: auth, mountPath: /secrets/auth, readOnly: true}
- {name: own-token, mountPath: /secrets/own, readOnly: true}
- {name: control-plane-token, mountPath: /secrets/control-plane, readOnly: true}
- {name: manager-token, mountPath: /secrets/manager, readOnly: true}
{{- end }}
{{- if .Values.tls.existingSecret }}
- {name: tls, mountPath: /secrets/tls, readOnly: true}
{{- end }}
{{- end }}

{{- define "lakebed.volumes" -}}
- name: tmp
  emptyDir: {}
{{- with .Values.auth.existingSecret }}
- name: auth
  secret: {secretName: {{ . }}, defaultMode: 0440, optional: false}
- name: own-token
  secret: {secretName: {{ . }}, defaultMode: 0440, items: [{key: own-token, path: token}]}
- name: control-plane-token
  secret: {secretName: {{ . }}, defaultMode: 0440, optional: true, items: [{key: control-plane-token, path: token}]}
- name: manager-token
  secret: {secretName: {{ . }}, defaultMode: 0440, optional: true, items: [{key: manager-token, path: token}]}
{{- end }}
{{- with .Values.tls.existingSecret }}
- name: tls
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- end }}

{{- define "lakebed.probes" -}}
startupProbe:
  httpGet: {path: {{ .path }}, port: {{ .port }}}
  periodSeconds: 2
  failureThreshold: 60
readinessProbe:
  httpGet: {path: {{ .path }}, port: {{ .port }}}
  periodSeconds: 5
livenessProbe:
  httpGet: {path: {{ .path }}, port: {{ .port }}}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- end }}
