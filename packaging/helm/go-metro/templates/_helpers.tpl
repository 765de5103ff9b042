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

{{- /* The configuration file, with what the values say of the recorder where it is silent. */ -}}
{{- define "go-metro.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- if .Values.record.enabled -}}
{{- $init := $config.init_config | default dict -}}
{{- $own := dict "memory" .Values.record.memory -}}
{{- with .Values.record.threshold }}{{ $_ := set $own "threshold" . }}{{ end -}}
{{- $_ := set $init "record" (merge ($init.record | default dict) $own) -}}
{{- $_ := set $config "init_config" $init -}}
{{- end -}}
{{- toYaml $config -}}
{{- end }}

{{- /* Where recordings are written; empty where nothing is recorded. */ -}}
{{- define "go-metro.recordings" -}}
{{- $record := ((include "go-metro.config" . | fromYaml).init_config | default dict).record | default dict -}}
{{- if $record.memory }}{{ $record.folder | default "/var/lib/go-metro" | clean }}{{ end }}
{{- end }}

{{- /* Where the page for browsers is, as `go-metro.listen` says it of Prometheus; empty for `off`, which YAML reads as `false`. */ -}}
{{- define "go-metro.web" -}}
{{- $init := .Values.config.init_config | default dict -}}
{{- if hasKey $init "web_listen" -}}
{{- if not (has (toString $init.web_listen) (list "off" "no" "false")) }}{{ $init.web_listen }}{{ end -}}
{{- else if .Values.web.enabled }}{{ printf "%s:%d" .Values.web.address (int .Values.web.port) }}{{ end }}
{{- end }}

{{- /* The URL to which metrics go by OTLP; empty for none. */ -}}
{{- define "go-metro.otlp" -}}
{{- $init := .Values.config.init_config | default dict -}}
{{- $init.otlp_endpoint | default .Values.otlp.endpoint -}}
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
