# Says that the original's configuration is not read, where there is one, and what takes it over.
say_of_original() {
    for original in /etc/dd-agent/conf.d/go-metro.yaml /etc/dd-agent/checks.d/go-metro.yaml; do
        if [ -e "$original" ]; then
            echo "go-metro: the service reads /etc/go-metro/conf.yaml, which reports every peer, and not $original; to take that over:"
            echo "  go-metro check -c $original && cp $original /etc/go-metro/conf.yaml && systemctl restart go-metro"
            return
        fi
    done
}
