{{- define "go-metro.name" -}}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}{{ else if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 63 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "go-metro.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "go-metro.labels" -}}
{{ include "go-metro.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- /* By its digest, where that is given: a tag may come to name another image. */ -}}
{{- define "go-metro.image" -}}
{{- with .Values.image -}}
{{- if .digest }}{{ .repository }}{{ with .tag }}:{{ . }}{{ end }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{- /* The path of the status socket; empty for `off`, which YAML reads as `false`. */ -}}
{{- define "go-metro.socket" -}}
{{- $init := .Values.config.init_config | default dict -}}
{{- $socket := hasKey $init "status_socket" | ternary $init.status_socket "/run/go-metro/go-metro.sock" | toString -}}
{{- if not (has $socket (list "off" "no" "false")) }}{{ $socket }}{{ end }}
{{- end }}

{{- /* Where the daemon serves Prometheus: what the file says, else what the values say; empty for nowhere. */ -}}
{{- define "go-metro.listen" -}}
{{- $init := .Values.config.init_config | default dict -}}
{{- if .Values.prometheus.enabled }}{{ $init.prometheus_listen | default (printf "%s:%d" .Values.prometheus.address (int .Values.prometheus.port)) }}{{ end }}
{{- end }}

{{- /* Its port, and whether others than the node reach it. */ -}}
{{- define "go-metro.port" -}}
{{- include "go-metro.listen" . | regexFind "[0-9]+$" }}
{{- end }}
{{- define "go-metro.reachable" -}}
{{- with include "go-metro.listen" . }}{{ if not (regexMatch "^(127[.]|\\[::1\\])" .) }}true{{ end }}{{ end }}
{{- end }}

{{- /* A probe: over the status socket, so that it does not depend on the metrics port; without one, at that port; or none. */ -}}
{{- define "go-metro.probe" -}}
{{- $listen := include "go-metro.listen" .root -}}
{{- $socket := include "go-metro.socket" .root -}}
{{- if $socket }}
exec: {command: [/usr/bin/go-metro, status, --probe={{ .probe }}{{ if ne $socket "/run/go-metro/go-metro.sock" }}, {{ printf "--socket=%s" $socket | quote }}{{ end }}]}
{{- else if $listen }}
httpGet: {path: /healthz, port: {{ include "go-metro.port" .root }}{{ if not (include "go-metro.reachable" .root) }}, host: {{ regexReplaceAll ":[0-9]+$" $listen "" | trimAll "[]" | quote }}{{ end }}}
{{- end }}
{{- end }}
