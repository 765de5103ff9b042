/* In place of libpcap's pcap-rdmasniff.o, so that capturing segments needs no libibverbs: it names no RDMA device and claims none. */

int rdmasniff_findalldevs(void *devices, char *error)
{
    (void)devices;
    (void)error;
    return 0;
}

void *rdmasniff_create(const char *device, char *error, int *is_ours)
{
    (void)device;
    (void)error;
    *is_ours = 0;
    return 0;
}
