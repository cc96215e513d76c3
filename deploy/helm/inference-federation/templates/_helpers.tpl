{{/* Labels of everything; call with the release's context and the role. */}}
{{- define "federation.labels" -}}
app.kubernetes.io/name: {{ .role }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/part-of: inference-federation
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{/* What selectors select by. */}}
{{- define "federation.selector" -}}
app.kubernetes.io/name: {{ .role }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end }}

{{- define "federation.image" -}}
{{- $image := .root.Values.image -}}
{{- with $image.registry }}{{ . }}/{{ end }}inference-federation/{{ .role }}:{{ $image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{- define "federation.controlPlaneHost" -}}
{{- .Values.controlPlaneHost | default (printf "control-plane.%s.svc" .Release.Namespace) }}
{{- end }}

{{/* The account, the policy for disruptions and the settings of a role. */}}
{{- define "federation.common" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ .role }}
  labels: {{- include "federation.labels" . | nindent 4 }}
automountServiceAccountToken: false
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ .role }}
  labels: {{- include "federation.labels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels: {{- include "federation.selector" . | nindent 6 }}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .role }}
  labels: {{- include "federation.labels" . | nindent 4 }}
data:
  {{- range $name, $value := .settings }}
  {{ $name }}: {{ $value | toString | quote }}
  {{- end }}
{{- end }}

{{/* A pod's start, up to its containers. */}}
{{- define "federation.pod" -}}
metadata:
  labels: {{- include "federation.labels" . | nindent 4 }}
  annotations:
    checksum/settings: {{ .settings | toJson | sha256sum }}
spec:
  serviceAccountName: {{ .role }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: 30
  {{- with .root.Values.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: {type: RuntimeDefault}
  {{- with .values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .values.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .values.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{/* A container's settings that are the same for all roles; `port` and `scheme` of its health. */}}
{{- define "federation.container" -}}
image: {{ include "federation.image" . }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
envFrom:
  - configMapRef: {name: {{ .role }}}
startupProbe:
  httpGet: {path: /healthz, port: {{ .port }}, scheme: {{ .scheme }}}
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /healthz, port: {{ .port }}, scheme: {{ .scheme }}}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: {{ .port }}, scheme: {{ .scheme }}}
  periodSeconds: 5
  timeoutSeconds: 3
resources: {{- toYaml .values.resources | nindent 2 }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- define "federation.claim" -}}
volumeClaimTemplates:
  - metadata: {name: state}
    spec:
      accessModes: [ReadWriteOnce]
      {{- with .values.storage.class }}
      storageClassName: {{ . }}
      {{- end }}
      resources: {requests: {storage: {{ .values.storage.size }}}}
{{- end }}

{{- define "federation.dns" -}}
- to:
    - namespaceSelector:
        matchLabels: {kubernetes.io/metadata.name: kube-system}
  ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
{{- end }}

{{/* Everywhere but the cloud's metadata service. */}}
{{- define "federation.anywhere" -}}
- namespaceSelector: {}
- ipBlock: {cidr: 0.0.0.0/0, except: [169.254.0.0/16]}
- ipBlock: {cidr: "::/0", except: ["fe80::/10"]}
{{- end }}

{{- define "federation.scraping" -}}
- from:
    - namespaceSelector:
        matchLabels: {kubernetes.io/metadata.name: {{ .root.Values.monitoring.namespace }}}
  ports: [{port: {{ .number }}, protocol: TCP}]
{{- end }}
