{{- define "unjucks.labels" -}}
app.kubernetes.io/name: unjucks
app.kubernetes.io/part-of: unjucks
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "unjucks.operatorSelector" -}}
app.kubernetes.io/name: unjucks
app.kubernetes.io/component: operator
{{- end }}

{{- define "unjucks.postgresSelector" -}}
app.kubernetes.io/name: unjucks
app.kubernetes.io/component: postgres
{{- end }}

{{- define "unjucks.tag" -}}
{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "unjucks.dsnSecretName" -}}
{{- if .Values.database.dsnSecretRef.name -}}
{{ .Values.database.dsnSecretRef.name }}
{{- else if .Values.database.bundled.enabled -}}
unjucks-database
{{- else -}}
{{ fail "database: set dsnSecretRef.name to a Secret with a DSN, or bundled.enabled to true for evaluation" }}
{{- end -}}
{{- end }}

{{- define "unjucks.useBundled" -}}
{{- if and .Values.database.bundled.enabled (not .Values.database.dsnSecretRef.name) }}true{{ end -}}
{{- end }}

{{- define "unjucks.redisSelector" -}}
app.kubernetes.io/name: unjucks
app.kubernetes.io/component: redis
{{- end }}

{{- define "unjucks.useBundledRedis" -}}
{{- if and .Values.cache.bundled.enabled (not .Values.cache.urlSecretRef.name) }}true{{ end -}}
{{- end }}

{{/* The Secret with the addresses of Redis; empty when there is none, which is fine. */}}
{{- define "unjucks.cacheSecretName" -}}
{{- if .Values.cache.urlSecretRef.name -}}
{{ .Values.cache.urlSecretRef.name }}
{{- else if .Values.cache.bundled.enabled -}}
unjucks-cache
{{- end -}}
{{- end }}

{{- define "unjucks.redisImage" -}}
{{ .Values.cache.bundled.image | default (printf "%s-redis:%s" .Values.image.repository (include "unjucks.tag" .)) }}
{{- end }}

{{/* Restricted in the sense of Pod Security; the same for every pod of ours. */}}
{{- define "unjucks.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "unjucks.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "unjucks.operatorImage" -}}
{{ .Values.image.operator | default (printf "%s-operator:%s" .Values.image.repository (include "unjucks.tag" .)) }}
{{- end }}

{{- define "unjucks.rendererImage" -}}
{{ .Values.image.renderer | default (printf "%s-renderer:%s" .Values.image.repository (include "unjucks.tag" .)) }}
{{- end }}

{{- define "unjucks.courierImage" -}}
{{ .Values.image.courier | default (printf "%s-courier:%s" .Values.image.repository (include "unjucks.tag" .)) }}
{{- end }}

{{- define "unjucks.postgresImage" -}}
{{ .Values.database.bundled.image | default (printf "%s-postgres:%s" .Values.image.repository (include "unjucks.tag" .)) }}
{{- end }}
