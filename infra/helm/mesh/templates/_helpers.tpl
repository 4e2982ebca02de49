{{- define "mesh.name" -}}
{{ printf "%s-%s" .root.Release.Name .component | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "mesh.selector" -}}
app.kubernetes.io/name: mesh
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "mesh.labels" -}}
{{ include "mesh.selector" . }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "mesh.user" -}}
{{ printf "mesh-%s" .principal }}
{{- end }}

{{- define "mesh.env" -}}
{{- $v := .root.Values }}
{{- $env := dict
  "MESH_BROKER" $v.broker
  "MESH_TOPIC_PREFIX" $v.topicPrefix
  "MESH_PARTITIONS" (toString $v.partitions)
  "MESH_TASK_PARTITIONS" (toString $v.taskPartitions)
  "MESH_REPLICAS" (toString $v.replicas)
  "MESH_DRAIN_TIMEOUT_S" (toString $v.drainTimeoutS)
  "MESH_METRICS" "prometheus"
  "MESH_METRICS_ADDRESS" (printf "0.0.0.0:%d" (int $v.metrics.port))
  "MESH_ROUTES" ""
  "MESH_APPROVERS" "" }}
{{- /* Routes and people come from topics. Empty takes back what the image sets: its demo's files. */}}
{{- if $v.strimzi.enabled }}
{{- $env = merge (dict
  "MESH_KAFKA_SECURITY_PROTOCOL" "SASL_SSL"
  "MESH_KAFKA_SASL_MECHANISM" "SCRAM-SHA-512"
  "MESH_KAFKA_CA_FILE" "/run/kafka-ca/ca.crt"
  "MESH_KAFKA_USERNAME" (include "mesh.user" .)
  "MESH_KAFKA_PASSWORD_FILE" "/run/kafka-user/password") $env }}
{{- end }}
{{- $env = merge (deepCopy (default dict .env)) (deepCopy $v.env) $env }}
{{- range $name := keys $env | sortAlpha }}
- name: {{ $name }}
  value: {{ get $env $name | toString | quote }}
{{- end }}
{{- end }}

{{/* A pod of the mesh. root, component, principal, image, args, env, envFrom, resources;
     probes: whether it keeps running; data: whether the data folder is a volume of its own;
     volumes, mounts: more of them. */}}
{{- define "mesh.pod" -}}
{{- $v := .root.Values }}
automountServiceAccountToken: false
terminationGracePeriodSeconds: {{ add $v.drainTimeoutS 15 }}
{{- with $v.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
containers:
  - name: mesh
    image: {{ default $v.image .image | quote }}
    imagePullPolicy: {{ $v.imagePullPolicy }}
    args: {{ toJson .args }}
    env:
      {{- include "mesh.env" . | trim | nindent 6 }}
    {{- with concat $v.envFrom (default list .envFrom) }}
    envFrom:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities: {drop: [ALL]}
    resources:
      {{- toYaml .resources | nindent 6 }}
    {{- if .probes }}
    ports:
      - {name: metrics, containerPort: {{ $v.metrics.port }}}
    startupProbe: # a router reads its log first
      exec: {command: [mesh, health]}
      periodSeconds: 5
      timeoutSeconds: 10
      failureThreshold: 60
    readinessProbe:
      exec: {command: [mesh, health, --ready]}
      periodSeconds: 15
      timeoutSeconds: 10
      failureThreshold: 1
    livenessProbe:
      exec: {command: [mesh, health]}
      periodSeconds: 30
      timeoutSeconds: 10
      failureThreshold: 3
    {{- end }}
    volumeMounts:
      - {name: tmp, mountPath: /tmp}
      - {name: data, mountPath: /var/lib/mesh}
      {{- if $v.strimzi.enabled }}
      - {name: kafka-ca, mountPath: /run/kafka-ca, readOnly: true}
      - {name: kafka-user, mountPath: /run/kafka-user, readOnly: true}
      {{- end }}
      {{- with .mounts }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
volumes:
  - {name: tmp, emptyDir: {}}
  {{- if not .data }}
  - {name: data, emptyDir: {}}
  {{- end }}
  {{- if $v.strimzi.enabled }}
  - {name: kafka-ca, secret: {secretName: {{ printf "%s-cluster-ca-cert" $v.strimzi.cluster }}}}
  - {name: kafka-user, secret: {secretName: {{ include "mesh.user" . }}}}
  {{- end }}
  {{- with .volumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "mesh.template" -}}
metadata:
  labels:
    {{- include "mesh.labels" . | nindent 4 }}
  annotations:
    prometheus.io/scrape: "true"
    prometheus.io/port: {{ .root.Values.metrics.port | quote }}
spec:
  {{- include "mesh.pod" . | nindent 2 }}
{{- end }}
