# Says that the original's configuration is ignored, if there is one, and how to use it.
say_of_original() {
    for original in /etc/dd-agent/conf.d/go-metro.yaml /etc/dd-agent/checks.d/go-metro.yaml; do
        if [ -e "$original" ]; then
            echo "go-metro: the service reads /etc/go-metro/conf.yaml, which reports every peer, and ignores $original; to use that file instead:"
            echo "  go-metro check -c $original && cp $original /etc/go-metro/conf.yaml && systemctl restart go-metro"
            return
        fi
    done
}
