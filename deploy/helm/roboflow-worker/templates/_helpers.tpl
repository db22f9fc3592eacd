{{- define "roboflow.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "roboflow.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "roboflow.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "roboflow.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "roboflow.selector" -}}
app.kubernetes.io/name: {{ include "roboflow.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* The chart's own version is not on pods: a new chart alone must not drain the fleet. */}}
{{- define "roboflow.podLabels" -}}
{{ include "roboflow.selector" . }}
app.kubernetes.io/version: {{ default .Chart.AppVersion .Values.image.tag | trunc 63 | trimSuffix "-" | trimSuffix "." | quote }}
{{- end -}}

{{- define "roboflow.labels" -}}
{{ include "roboflow.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "roboflow.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "roboflow.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "roboflow.secret" -}}
{{- default (include "roboflow.fullname" .) .Values.secret.existing -}}
{{- end -}}

{{- define "roboflow.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{/* Seconds between the stop signal and the kill of a worker pod. */}}
{{- define "roboflow.grace" -}}
{{- ternary .Values.spot.terminationGracePeriodSeconds .Values.worker.terminationGracePeriodSeconds .Values.spot.enabled -}}
{{- end -}}

{{/* Half of the scratch volume in bytes: the other half is for the files being written. */}}
{{- define "roboflow.cacheBytes" -}}
{{- $units := dict "M" 1000000 "G" 1000000000 "T" 1000000000000 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- $number := regexFind "^[0-9.]+" .Values.worker.scratch.size | float64 -}}
{{- $unit := get $units (regexFind "[A-Za-z]+$" .Values.worker.scratch.size) -}}
{{- divf (mulf $number $unit) 2 | int64 -}}
{{- end -}}

{{/* What every container of ours shares. Takes the root context. */}}
{{- define "roboflow.container" -}}
image: {{ include "roboflow.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
ports:
  - {name: http, containerPort: 8080, protocol: TCP}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
envFrom:
  - configMapRef: {name: {{ include "roboflow.fullname" . }}}
  - secretRef: {name: {{ include "roboflow.secret" . }}}
volumeMounts:
  - {name: scratch, mountPath: /scratch}
startupProbe:
  httpGet: {path: /livez, port: http}
  periodSeconds: 2
  timeoutSeconds: 3
  failureThreshold: 30
livenessProbe:
  httpGet: {path: /livez, port: http}
  periodSeconds: 10
  timeoutSeconds: 3
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: http}
  periodSeconds: 5
  timeoutSeconds: 2
  failureThreshold: 3
{{- end -}}

{{/* What every pod of ours shares. Takes the root context. */}}
{{- define "roboflow.pod" -}}
serviceAccountName: {{ include "roboflow.serviceAccount" . }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Restarts pods when what they read at start has changed. */}}
{{- define "roboflow.checksums" -}}
checksum/config: {{ include (print .Template.BasePath "/configmap.yaml") . | sha256sum }}
checksum/secret: {{ include (print .Template.BasePath "/secret.yaml") . | sha256sum }}
{{- end -}}
