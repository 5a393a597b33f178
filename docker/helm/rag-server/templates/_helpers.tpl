{{- define "rag-server.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Takes the chart's context and a component: server or vllm. */}}
{{- define "rag-server.selector" -}}
app.kubernetes.io/name: {{ .context.Chart.Name }}
app.kubernetes.io/instance: {{ .context.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "rag-server.labels" -}}
{{ include "rag-server.selector" . }}
app.kubernetes.io/version: {{ .context.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .context.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .context.Chart.Name .context.Chart.Version }}
{{- end -}}

{{- define "rag-server.secretName" -}}
{{- .Values.secret.existing | default (include "rag-server.name" .) -}}
{{- end -}}

{{/* What both kinds of pods have in common. */}}
{{- define "rag-server.pod" -}}
automountServiceAccountToken: false
# Kubernetes would describe the Service in variables that begin like settings, and those that do not exist are refused.
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  # A large data directory is not gone through at every start.
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "rag-server.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* What cannot work is refused before anything is changed. */}}
{{- define "rag-server.check" -}}
{{- if and .Values.secret.existing .Values.secret.values -}}
{{- fail "secret.existing and secret.values: name a Secret that is there, or give values for a new one, not both" -}}
{{- end -}}
{{- if and (gt (int .Values.server.replicas) 1) (not .Values.secret.existing) -}}
{{- range list "RAG_DATABASE__URL" "RAG_REDIS__URL" -}}
{{- if not (hasKey $.Values.secret.values .) -}}
{{- fail (printf "server.replicas: more than one server needs %s, in secret.values or in the Secret that secret.existing names" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and .Values.vllm.replicas (not (and .Values.model.claim .Values.model.folder)) -}}
{{- fail "vllm.replicas: vLLM needs a model: set model.claim and model.folder" -}}
{{- end -}}
{{- if ne (empty .Values.model.claim) (empty .Values.model.folder) -}}
{{- fail "model: set both claim and folder, or neither" -}}
{{- end -}}
{{- end -}}
